"""The official `openai` client against the gateway: what its users see."""

import asyncio
import os
import signal

import openai
import pytest

from support.processes import wait_until
from support.server import FAR_TOO_MANY, MODEL, Serve

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"model": MODEL, "temperature": 0, "max_tokens": 12}


def test_a_whole_answer_with_usage(client: openai.OpenAI):
    answer = client.chat.completions.create(messages=QUESTION, **GREEDY)

    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_a_streamed_answer_is_the_whole_one_in_pieces(client: openai.OpenAI):
    whole = client.chat.completions.create(messages=QUESTION, **GREEDY)

    chunks = list(client.chat.completions.create(
        messages=QUESTION, stream=True, stream_options={"include_usage": True}, **GREEDY))

    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == whole.choices[0].message.content
    assert len([one for one in chunks if one.choices and one.choices[0].delta.content]) > 1
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(one.usage is None for one in chunks[:-1])


def test_the_streaming_helper_assembles_the_message(client: openai.OpenAI):
    """It joins strings, so a role sent twice would come out as "assistantassistant"."""
    with client.chat.completions.stream(messages=QUESTION, **GREEDY) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()

    assert final.choices[0].message.role == "assistant"
    assert "Paris" in final.choices[0].message.content
    assert "content.delta" in kinds and kinds.count("content.done") == 1


def test_completions_whole_and_streamed(client: openai.OpenAI):
    arguments = {"model": MODEL, "prompt": "1, 2, 3, 4,", "temperature": 0, "max_tokens": 6}

    whole = client.completions.create(**arguments)
    chunks = list(client.completions.create(stream=True, **arguments))

    assert whole.choices[0].text == " 5, 6,"
    assert "".join(one.choices[0].text for one in chunks) == " 5, 6,"
    assert whole.usage.completion_tokens == 6


SAMPLED = {"model": MODEL, "temperature": 0.9, "max_tokens": 10, "seed": 7}


def texts(answer) -> list[str]:
    return [choice.message.content for choice in answer.choices]


def test_several_choices_whole_and_streamed(client: openai.OpenAI):
    whole = client.chat.completions.create(messages=QUESTION, n=3, **SAMPLED)
    alone = client.chat.completions.create(messages=QUESTION, **SAMPLED)
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(
            messages=QUESTION, n=3, stream=True, stream_options={"include_usage": True}, **SAMPLED):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""

    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts(whole))) > 1
    assert texts(whole)[0] == texts(alone)[0]
    assert streamed == texts(whole)
    assert chunk.usage.completion_tokens == whole.usage.completion_tokens
    assert whole.usage.prompt_tokens == alone.usage.prompt_tokens


def test_a_seed_repeats_an_answer(client: openai.OpenAI):
    first, again = (client.chat.completions.create(messages=QUESTION, **SAMPLED) for _ in range(2))
    other = client.chat.completions.create(messages=QUESTION, **{**SAMPLED, "seed": 8})

    assert texts(first) == texts(again) != texts(other)


def test_chat_logprobs_spell_the_text(client: openai.OpenAI):
    for stop in ("Paris", None):
        answer = client.chat.completions.create(
            messages=QUESTION, logprobs=True, top_logprobs=20, stop=stop, **GREEDY)

        tokens = answer.choices[0].logprobs.content
        content = answer.choices[0].message.content
        assert "".join(token.token for token in tokens) == content
        assert bytes(byte for token in tokens for byte in token.bytes) == content.encode()
        assert all(len(token.top_logprobs) == 20 for token in tokens)
        # Greedy: each token is the best one.
        assert all(token.top_logprobs[0].logprob == token.logprob for token in tokens)


def test_streamed_logprobs_spell_the_text(client: openai.OpenAI):
    text, spelled = "", ""
    for chunk in client.chat.completions.create(
            messages=[{"role": "user", "content": "Answer with emoji only: a cat, a dog"}],
            logprobs=True, stream=True, **{**GREEDY, "max_tokens": 24}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            spelled += "".join(token.token for token in (choice.logprobs.content
                                                         if choice.logprobs else []))

    assert text and spelled == text


def test_completions_logprobs_with_the_prompts_own(client: openai.OpenAI):
    answer = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", temperature=0,
                                       max_tokens=6, logprobs=2, echo=True)

    choice = answer.choices[0]
    assert choice.text == "1, 2, 3, 4, 5, 6,"
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(number <= 0 for number in choice.logprobs.token_logprobs[1:])
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
        assert choice.text[offset:offset + len(token)] == token
    assert max(choice.logprobs.top_logprobs[-1].values()) == choice.logprobs.token_logprobs[-1]


def test_a_prompt_is_scored_without_an_answer(client: openai.OpenAI):
    """As evaluation harnesses do."""
    likely, unlikely = (
        client.completions.create(model=MODEL, prompt=f"1, 2, 3, 4, 5, {end}", max_tokens=0,
                                  logprobs=0, echo=True)
        for end in ("6, 7", "x, q"))

    for answer in (likely, unlikely):
        logprobs = answer.choices[0].logprobs
        assert "".join(logprobs.tokens) == answer.choices[0].text
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 0
        assert answer.usage.prompt_tokens >= len(logprobs.tokens)
    assert (sum(likely.choices[0].logprobs.token_logprobs[1:])
            > sum(unlikely.choices[0].logprobs.token_logprobs[1:]))


def test_a_bias_bans_and_selects(client: openai.OpenAI, worker_alone):
    paris = worker_alone.post("/tokenize", {"prompt": " Paris"}).json["tokens"][0]

    banned = client.chat.completions.create(messages=QUESTION, logit_bias={str(paris): -100},
                                            **GREEDY)
    only = client.chat.completions.create(messages=QUESTION, logit_bias={str(paris): 100}, **GREEDY)

    assert " Paris" not in texts(banned)[0]
    assert texts(only)[0].replace(" Paris", "") == ""


def test_penalties_end_repetition(client: openai.OpenAI):
    arguments = {"model": MODEL, "prompt": "a b a b a b a b", "temperature": 0, "max_tokens": 24}

    plain = client.completions.create(**arguments).choices[0].text
    for penalty in ({"frequency_penalty": 2}, {"presence_penalty": 2},
                    {"extra_body": {"repetition_penalty": 2}},
                    {"extra_body": {"dry_multiplier": 5}}):
        assert client.completions.create(**arguments, **penalty).choices[0].text != plain


def test_several_prompts_and_the_best_of_some(client: openai.OpenAI):
    prompts = client.completions.create(model=MODEL, prompt=["1, 2, 3, 4,", "5, 6, 7, 8,"],
                                        temperature=0, max_tokens=6)
    best = client.completions.create(prompt="Once upon a time", n=1, best_of=4, **SAMPLED)

    assert [choice.text for choice in prompts.choices] == [" 5, 6,", " 9, 10"]
    assert len(best.choices) == 1 and best.usage.completion_tokens > 10


def test_models_are_listed_and_retrieved(client: openai.OpenAI):
    assert [one.id for one in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("some/other")


def test_several_turns_and_a_system_message(client: openai.OpenAI):
    answer = client.chat.completions.create(messages=[
        {"role": "system", "content": "You answer questions about geography."}, *QUESTION,
        {"role": "assistant", "content": "The capital of France is Paris."},
        {"role": "user", "content": "Repeat the name of that city."}], **GREEDY)

    assert "Paris" in answer.choices[0].message.content


def test_errors_arrive_as_the_clients_own_classes(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert not_found.value.code == "model_not_found"
    assert not_found.value.type == "invalid_request_error"
    assert not_found.value.request_id

    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert bad.value.param == "temperature"

    with pytest.raises(openai.BadRequestError) as bad_stream:
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3, stream=True)
    assert bad_stream.value.param == "temperature"

    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="word " * 20_000)
    assert long.value.code == "context_length_exceeded"


def test_raw_responses_show_the_headers(client: openai.OpenAI):
    raw = client.chat.completions.with_raw_response.create(
        messages=QUESTION, extra_headers={"x-request-id": "raw-1"}, **GREEDY)

    assert raw.headers["x-request-id"] == "raw-1"
    assert raw.headers["content-type"].startswith("application/json")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "Paris" in raw.parse().choices[0].message.content


@pytest.fixture
def endless_client(endless: Serve):
    with openai.OpenAI(base_url=endless.base_url, api_key="none", max_retries=0) as one:
        yield one


def test_a_time_out_of_the_client_ends_the_sequence(endless: Serve, endless_client: openai.OpenAI):
    # The client announces its time-out (x-stainless-read-timeout), so the server may be first.
    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
        endless_client.with_options(timeout=0.7).completions.create(
            model=MODEL, prompt="1, 2, 3, 4,", temperature=0, max_tokens=FAR_TOO_MANY)

    wait_until("the sequence stops", lambda: endless.running_sequences() == 0)


def test_a_stream_closed_by_the_client_ends_the_sequence(endless: Serve,
                                                         endless_client: openai.OpenAI):
    stream = endless_client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", temperature=0,
                                               max_tokens=FAR_TOO_MANY, stream=True)
    next(iter(stream))

    stream.close()

    wait_until("the sequence stops", lambda: endless.running_sequences() == 0)


def test_the_async_client_16_at_a_time(server: Serve):
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none",
                                      max_retries=0) as client:
            async def one(client_number: int) -> str:
                first = 20 + client_number
                stream = await client.completions.create(
                    model=MODEL, temperature=0, max_tokens=6, stream=True,
                    prompt=f"{first}, {first + 1}, {first + 2}, {first + 3},")
                return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

            return await asyncio.gather(*(one(number) for number in range(16)))

    for number, text in enumerate(asyncio.run(run())):
        assert text.startswith(f" {24 + number},"), (number, text)


def test_two_retries_hide_a_restart_from_the_user(start_server):
    """The client's defaults and ours fit together: a worker killed under a request that has not
    answered yet is not seen."""
    server = start_server().wait_ready()
    os.kill(server.workers()[0]["pid"], signal.SIGKILL)

    with openai.OpenAI(base_url=server.base_url, api_key="none") as client:
        answer = client.chat.completions.create(messages=QUESTION, **GREEDY)

    assert "Paris" in answer.choices[0].message.content
