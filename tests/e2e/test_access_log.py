"""The access log: one JSON object a request, never a word of prompt or answer."""

from support.processes import wait_until
from support.server import FAR_TOO_MANY, MODEL, Serve

SECRET = "Zanzibar-7713"


def entry(server: Serve, request_id: str) -> dict:
    """The log is written behind the answer, so wait for the line."""
    return wait_until(f"{request_id} is logged", lambda: next(
        (one for one in server.access_log() if one["request_id"] == request_id), None))


def test_a_request_is_one_json_line_with_the_documented_fields(server: Serve):
    with server.stream_chat(f"Say {SECRET}", max_tokens=3,
                            headers={"x-request-id": "log-1", "user-agent": "tests"}) as stream:
        list(stream.chunks())

    line = entry(server, "log-1")

    assert line["method"] == "POST" and line["path"] == "/v1/chat/completions"
    assert line["status"] == 200 and line["model"] == MODEL
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] == 3
    assert line["total_ms"] > 0 and line["ttft_ms"] > 0
    assert line["time"].startswith("20") and line["worker"] == f"{MODEL}/0"
    assert line["bytes"] > 0 and line["stream"] is True


def test_an_error_is_logged_with_its_code(server: Serve):
    server.post("/v1/chat/completions", {"model": "nope", "messages": []},
                headers={"x-request-id": "log-2"})

    line = entry(server, "log-2")

    assert line["status"] == 404 and line["error"] == "model_not_found"


def test_a_client_that_leaves_is_an_outcome_of_its_own(endless: Serve):
    stream = endless.stream_completion("1, 2, 3,", max_tokens=FAR_TOO_MANY,
                                       headers={"x-request-id": "log-3"})
    next(stream.chunks())

    stream.close()

    assert entry(endless, "log-3")["client_gone"] is True


def test_no_log_holds_text_of_prompts_or_answers_or_keys(server: Serve):
    server.chat(f"Repeat the word {SECRET}", max_tokens=12)
    server.complete(f"{SECRET} {SECRET}", max_tokens=4)
    server.post("/v1/chat/completions", {"model": MODEL, "messages": SECRET})
    server.post("/v1/chat/completions", ('{"model": "' + SECRET + '", ').encode())
    server.get("/v1/models", headers={"authorization": f"Bearer {SECRET}",
                                      "x-request-id": "log-last"})
    entry(server, "log-last")

    assert SECRET not in server.access_log_path.read_text()
    assert SECRET not in server.log()


def test_a_hostile_request_id_cannot_forge_a_line(server: Serve):
    hostile = 'x"},{"status":200,"request_id":"forged'
    server.get("/v1/models", headers={"x-request-id": hostile})
    server.get("/v1/models", headers={"x-request-id": "after-hostile"})
    entry(server, "after-hostile")

    assert not [one for one in server.access_log() if one["request_id"] == "forged"]
