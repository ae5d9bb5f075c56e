"""Server-sent events byte by byte: the rules that client libraries rely on."""

import json

import pytest

from support import wire
from support.server import MODEL, Serve, chat_body, completion_body


def streamed(server: Serve, target: str, body: dict, *fields: str) -> tuple[dict, bytes]:
    """Headers and unchunked body of a streamed answer, read to the end of the connection."""
    content = json.dumps({**body, "stream": True}).encode()
    head = "\r\n".join([f"POST {target} HTTP/1.1", f"host: 127.0.0.1:{server.port}",
                        "connection: close", "content-type: application/json",
                        f"content-length: {len(content)}", *fields, "", ""])
    raw = wire.exchange_bytes(server.port, head.encode() + content)
    status, headers, answer = wire.split_answer(raw)
    assert status == 200, raw
    return headers, answer


def events(answer: bytes) -> list[str]:
    blocks = answer.decode().split("\n\n")
    assert blocks.pop() == "", "the last event ends with a blank line"
    events = [block for block in blocks if not block.startswith(":")]
    for event in events:
        assert event.startswith("data: ") and "\n" not in event, event
    return [event.removeprefix("data: ") for event in events]


@pytest.fixture(scope="module")
def chat_stream(server: Serve):
    body = chat_body(MODEL, "Count from one to five.", stream_options={"include_usage": True})
    headers, answer = streamed(server, "/v1/chat/completions", body, "x-request-id: my-request-7")
    return headers, events(answer)


@pytest.fixture(scope="module")
def chat_chunks(chat_stream):
    return [json.loads(event) for event in chat_stream[1][:-1]]


def test_the_headers_say_that_it_is_an_uncached_event_stream(chat_stream):
    headers = chat_stream[0]

    assert headers["content-type"].split(";")[0] == "text/event-stream"
    assert "no-cache" in headers["cache-control"] or "no-store" in headers["cache-control"]


def test_a_request_id_is_echoed_or_made(chat_stream, server: Serve):
    assert chat_stream[0]["x-request-id"] == "my-request-7"

    made = [server.get("/v1/models").headers["x-request-id"] for _ in range(2)]

    assert all(made) and made[0] != made[1]


def test_done_comes_last_and_once(chat_stream):
    assert chat_stream[1][-1] == "[DONE]"
    assert chat_stream[1].count("[DONE]") == 1


def test_all_chunks_share_id_created_and_model(chat_chunks):
    assert len({(one["id"], one["created"], one["model"]) for one in chat_chunks}) == 1
    assert chat_chunks[0]["id"].startswith("chatcmpl-")
    assert isinstance(chat_chunks[0]["created"], int)
    assert chat_chunks[0]["model"] == MODEL
    assert {one["object"] for one in chat_chunks} == {"chat.completion.chunk"}


def test_the_role_comes_once_and_first(chat_chunks):
    with_role = [i for i, one in enumerate(chat_chunks)
                 if one["choices"] and "role" in one["choices"][0]["delta"]]

    assert with_role == [0]
    assert chat_chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_every_delta_is_an_object(chat_chunks):
    for one in chat_chunks:
        assert all(isinstance(choice["delta"], dict) for choice in one["choices"])


def test_the_finish_chunk_has_an_empty_delta_and_comes_once(chat_chunks):
    finishes = [one for one in chat_chunks if one["choices"]
                and one["choices"][0].get("finish_reason")]

    assert len(finishes) == 1
    assert finishes[0]["choices"][0]["delta"] == {}
    assert finishes[0]["choices"][0]["finish_reason"] in ("stop", "length")
    assert finishes[0] is chat_chunks[-2]


def test_usage_is_in_the_last_chunk_and_null_in_the_others(chat_chunks):
    assert chat_chunks[-1]["choices"] == []
    usage = chat_chunks[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 0
    for one in chat_chunks[:-1]:
        assert one.get("usage") is None


def test_without_include_usage_there_is_no_usage_chunk(server: Serve):
    _, answer = streamed(server, "/v1/chat/completions", chat_body(MODEL, "Hi", max_tokens=3))

    chunks = [json.loads(event) for event in events(answer)[:-1]]
    assert all(one["choices"] for one in chunks)
    assert all(one.get("usage") is None for one in chunks)


def test_tokens_and_seeds_between_gateway_and_worker_stay_inside(chat_chunks):
    assert all("mlxs" not in one for one in chat_chunks)


def test_completions_stream_text_completion_chunks(server: Serve):
    body = completion_body(MODEL, "1, 2, 3,", max_tokens=6, stream_options={"include_usage": True})
    _, answer = streamed(server, "/v1/completions", body)

    data = events(answer)
    chunks = [json.loads(event) for event in data[:-1]]
    assert data[-1] == "[DONE]"
    assert {one["object"] for one in chunks} == {"text_completion"}
    assert len({one["id"] for one in chunks}) == 1 and chunks[0]["id"].startswith("cmpl-")
    assert "".join(wire.text_of(one) for one in chunks) == " 4, 5,"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 6
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_split_characters_never_reach_the_client(server: Serve):
    """R-STR-6: an emoji is several tokens; every frame is valid JSON in valid UTF-8 by itself."""
    prompt = "\N{GRINNING FACE} \N{ROCKET} \N{GRINNING FACE} \N{ROCKET} \N{GRINNING FACE}"
    body = completion_body(MODEL, prompt, max_tokens=16)
    whole = server.post("/v1/completions", body).json["choices"][0]["text"]

    _, answer = streamed(server, "/v1/completions", body)

    chunks = [json.loads(event) for event in events(answer)[:-1]]
    assert "".join(wire.text_of(one) for one in chunks) == whole
    assert "\N{REPLACEMENT CHARACTER}" not in whole[:-1]
