"""R-ENG-6: every documented field is honoured or answered 400 with `param`, none in silence."""

import re

import pytest

from support.processes import repository
from support.server import MODEL, Serve, chat_body, completion_body

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

# Field, values that must be refused, on both endpoints.
BOTH = [
    ("model", [None, 7, [], {}]),
    ("temperature", ["hot", -0.1, 2.1, [], True]),
    ("top_p", ["x", -0.1, 1.1, {}]),
    ("top_k", ["x", -2, 1.5]),
    ("min_p", ["x", -0.1, 1.1]),
    ("max_tokens", ["x", 0, -1, 1.5, []]),
    ("n", ["x", 0, -1, 1.5, 1000]),
    ("seed", ["x", 1.5, {}]),
    ("stop", [7, {}, [7], [""], ["a", "b", "c", "d", "e"]]),
    ("stream", ["yes", 1, []]),
    ("stream_options", ["x", [], 7]),
    ("frequency_penalty", ["x", -2.1, 2.1]),
    ("presence_penalty", ["x", -2.1, 2.1]),
    ("logit_bias", ["x", [], 7, {"x": 1}, {"5": 101}, {"1000000": 1}]),
    ("user", [7, []]),
    ("repetition_penalty", ["x", 0, -1, 101]),
    ("min_tokens", ["x", -1, 1.5, 3]),
    ("ignore_eos", ["x", 1]),
    ("stop_token_ids", ["x", 7, ["x"], [-1], [10**6], [1] * 65]),
    ("xtc_probability", ["x", -0.1, 1.1]),
    ("xtc_threshold", ["x", -0.1, 1.1]),
    ("dry_multiplier", ["x", -1]),
    ("dry_base", ["x", -1]),
    ("dry_allowed_length", ["x", -1, 1.5]),
    ("dry_penalty_last_n", ["x", -2, 1.5]),
    ("dry_sequence_breakers", ["x", 7, [7], [""]]),
    ("mlxs", ["x", 7, {"seed": "x"}, {"token_ids": 7}, {"resume": 7}]),
]
CHAT_ONLY = [
    ("messages", [None, "Hi", {}, [], 7]),
    ("max_completion_tokens", ["x", 0, -1, 1.5]),
    ("logprobs", ["x", 7]),
    ("top_logprobs", ["x", -1, 21]),
    ("tools", ["x", {}, 7]),
    ("tool_choice", [7, []]),
    ("parallel_tool_calls", ["x", 7]),
    ("response_format", ["x", [], 7]),
    ("reasoning_effort", [7, []]),
    ("metadata", ["x", 7]),
    ("store", ["x", 7]),
    ("service_tier", [7, []]),
    ("modalities", ["x", 7]),
    ("audio", ["x", 7]),
    ("chat_template_kwargs", ["x", 7, []]),
    ("function_call", [7, [], "sometimes"]),
    ("functions", ["x", 7, {}]),
    ("moderation", ["x", 7]),
    ("prediction", ["x", 7]),
    ("prompt_cache_key", [7, []]),
    ("prompt_cache_options", ["x", 7]),
    ("prompt_cache_retention", [7, "forever"]),
    ("safety_identifier", [7, "a" * 129]),
    ("verbosity", [7, "loud"]),
    ("web_search_options", ["x", 7]),
]
COMPLETIONS_ONLY = [
    ("prompt", [7, {}, True]),
    ("echo", ["x", 7]),
    ("best_of", ["x", 0, 21]),
    ("logprobs", ["x", -1, 6]),
    ("suffix", [7, []]),
]
# Documented, valid, and not (yet) to be honoured: a clear refusal, never a wrong answer.
HONOURED_OR_REFUSED = [
    (CHAT, "response_format", {"type": "json_object"}),
    (CHAT, "modalities", ["text", "audio"]),
    (CHAT, "tools", [{"type": "function", "function": {"name": "f"}}]),
    (CHAT, "reasoning_effort", "low"), (CHAT, "verbosity", "low"),
    (COMPLETIONS, "suffix", "end"),  # the default model has no tokens for gaps
]
# Accepted, since they do not change the answer or stand at their default.
ACCEPTED = [
    ("user", "u"), ("stop", None), ("n", 1), ("frequency_penalty", 0), ("presence_penalty", 0),
    ("logit_bias", None), ("seed", 7), ("temperature", None), ("top_p", 1), ("stop", "zzz"),
    ("stop", ["zzz"]), ("nobody_documents_this", {"a": 1}),
]
ACCEPTED_CHAT = [
    ("store", False), ("metadata", {"a": "b"}), ("service_tier", "auto"), ("tool_choice", None),
    ("response_format", {"type": "text"}), ("logprobs", False), ("max_completion_tokens", 2),
    ("parallel_tool_calls", True), ("modalities", ["text"]),
]


def name_of(value) -> str:
    """Ids of parameters: the fields' names, not their values."""
    return value if isinstance(value, str) else ""


def body_for(target: str) -> dict:
    if target == CHAT:
        return chat_body(MODEL, "Hi", max_tokens=2)
    return completion_body(MODEL, "1, 2,", max_tokens=2)


def refused(server: Serve, target: str, body: dict, param: str) -> dict:
    reply = server.post(target, body)
    assert reply.status == 400, (reply.status, reply.body)
    error = reply.error
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param), error
    assert reply.headers["x-should-retry"] == "false"
    return error


@pytest.fixture(autouse=True)
def everything_else_still_runs(server: Serve):
    yield
    server.check_alive()


@pytest.mark.parametrize("field,values", BOTH + CHAT_ONLY, ids=name_of)
def test_a_wrong_chat_field_is_a_400_that_names_it(server: Serve, field: str, values: list):
    for value in values:
        refused(server, CHAT, {**body_for(CHAT), field: value}, field)


@pytest.mark.parametrize("field,values", BOTH + COMPLETIONS_ONLY, ids=name_of)
def test_a_wrong_completions_field_is_a_400_that_names_it(server: Serve, field: str, values: list):
    for value in values:
        refused(server, COMPLETIONS, {**body_for(COMPLETIONS), field: value}, field)


def test_every_documented_field_is_in_these_tables():
    """docs/parameters.md is made from the table that the server checks requests by."""
    page = (repository() / "docs/parameters.md").read_text()
    chat, completions = (set(re.findall(r"^\| `(\w+)`", part, re.MULTILINE))
                         for part in page.split("## POST /v1/")[1:3])

    assert len(chat) > 30 and len(completions) > 15
    assert chat <= {field for field, _ in BOTH + CHAT_ONLY}
    assert completions <= {field for field, _ in BOTH + COMPLETIONS_ONLY}


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_chat_field_is_a_400_that_names_it(server: Serve, field: str):
    body = body_for(CHAT)
    del body[field]

    refused(server, CHAT, body, field)


def test_a_missing_prompt_is_a_400_that_names_it(server: Serve):
    refused(server, COMPLETIONS, {"model": MODEL}, "prompt")


@pytest.mark.parametrize("role", ["wizard", "", "function2", "User", None, 7])
def test_a_role_outside_the_five_is_a_400(server: Serve, role):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"},
                                         {"role": role, "content": "Hi"}]}

    refused(server, CHAT, body, "messages[1].role")


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
def test_the_five_roles_are_accepted(server: Serve, role: str):
    extra = {"tool_call_id": "call_1"} if role == "tool" else {}
    body = {"model": MODEL, "max_tokens": 1, "messages": [
        {"role": role, "content": "Be brief.", **extra}, {"role": "user", "content": "Hi"}]}

    assert server.post(CHAT, body).status == 200


@pytest.mark.parametrize("message", [
    7, "Hi", None, [], {"role": "user"}, {"role": "user", "content": 7},
    {"role": "user", "content": {}}, {"role": "user", "content": ["Hi"]},
    {"role": "user", "content": [{"type": "text"}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    {"content": "Hi"}], ids=repr)
def test_a_malformed_message_is_a_400_that_names_it(server: Serve, message):
    refused(server, CHAT, {"model": MODEL, "messages": [message]}, "messages[0]")


def test_content_may_be_a_list_of_text_parts(server: Serve):
    parts = [{"type": "text", "text": "What is the capital "},
             {"type": "text", "text": "of France?"}]

    reply = server.post(CHAT, {**chat_body(MODEL, ""), "messages": [
        {"role": "user", "content": parts}]})

    assert "Paris" in reply.json["choices"][0]["message"]["content"]


@pytest.mark.parametrize("target,field,value", HONOURED_OR_REFUSED,
                         ids=name_of)
def test_what_cannot_be_honoured_is_refused_by_name(server: Serve, target: str, field: str, value):
    error = refused(server, target, {**body_for(target), field: value}, field)

    assert error["code"] == "unsupported_parameter"


@pytest.mark.parametrize("field,value", ACCEPTED + ACCEPTED_CHAT,
                         ids=name_of)
def test_what_does_not_change_the_answer_is_accepted(server: Serve, field: str, value):
    reply = server.post(CHAT, {**body_for(CHAT), field: value})

    assert reply.status == 200, reply.body


def test_a_prompt_may_be_token_ids(server: Serve, worker_alone):
    tokens = worker_alone.post("/tokenize", {"prompt": "1, 2, 3, 4,", "add_special": True}).json

    reply = server.post(COMPLETIONS, completion_body(MODEL, tokens["tokens"], max_tokens=6))

    assert reply.json["choices"][0]["text"] == " 5, 6,"
    assert reply.json["usage"]["prompt_tokens"] == tokens["count"]


def test_a_prompt_may_be_several(server: Serve):
    reply = server.post(COMPLETIONS, completion_body(
        MODEL, ["1, 2, 3, 4,", "5, 6, 7, 8,"], max_tokens=6)).json

    assert [choice["text"] for choice in reply["choices"]] == [" 5, 6,", " 9, 10"]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]


def test_more_choices_than_run_at_a_time_are_a_400(server: Serve):
    refused(server, CHAT, {**body_for(CHAT), "n": 128}, "n")


def test_token_ids_outside_the_vocabulary_are_a_400(server: Serve):
    for tokens in ([10**6], [-1], [1, "a"], [1.5], [2**40]):
        refused(server, COMPLETIONS, completion_body(MODEL, tokens), "prompt")


def test_a_prompt_over_the_context_length_says_so_in_the_usual_words(server: Serve):
    for target, body in ((CHAT, chat_body(MODEL, "word " * 20_000)),
                         (COMPLETIONS, completion_body(MODEL, "word " * 20_000)),
                         (CHAT, chat_body(MODEL, "word " * 20_000, stream=True))):
        reply = server.post(target, body)

        assert reply.status == 400
        assert reply.error["code"] == "context_length_exceeded"
        assert "maximum context length" in reply.error["message"]


def test_max_completion_tokens_bounds_the_answer(server: Serve):
    body = body_for(CHAT)
    del body["max_tokens"]

    reply = server.post(CHAT, {**body, "max_completion_tokens": 3}).json

    assert reply["usage"]["completion_tokens"] == 3
    assert reply["choices"][0]["finish_reason"] == "length"


def test_an_answer_may_be_asked_for_beyond_the_context(server: Serve):
    """Cut at the context, not refused: only a prompt that leaves no room is an error."""
    reply = server.post(CHAT, chat_body(MODEL, "Say only: yes", max_tokens=10**6, stop=["."]))

    assert reply.status == 200
