"""Workers given by URL: any server that speaks OpenAI's API, quirks included."""

import pytest

from support import wire
from support.foreign import ForeignServer
from support.processes import free_port, wait_until
from support.server import MODEL, MODEL_FILE, Serve, Worker, chat_body

THEIRS = "anything-openai"


def config_with(url: str, model: str) -> dict:
    return {"models": [{"id": THEIRS, "workers": [{"kind": "url", "url": url, "model": model}]}]}


@pytest.fixture
def gateway(start_server, foreign_server: ForeignServer):
    """A gateway in front of the foreign server only."""
    server = start_server(config=config_with(foreign_server.url, foreign_server.MODEL),
                          model=THEIRS)
    return server.wait_ready()


def test_a_native_worker_elsewhere_is_a_worker_by_its_url(start_server, worker_alone: Worker):
    server = start_server(config=config_with(worker_alone.base_url, MODEL), model=THEIRS)
    server.wait_ready()

    reply = server.chat("What is the capital of France?")

    assert "Paris" in reply.json["choices"][0]["message"]["content"]
    assert reply.json["model"] == THEIRS
    with server.stream_chat("What is the capital of France?",
                            stream_options={"include_usage": True}) as stream:
        chunks = list(stream.chunks())
        assert stream.done
    assert "Paris" in "".join(wire.text_of(chunk) for chunk in chunks)
    assert {chunk["model"] for chunk in chunks} == {THEIRS}
    assert chunks[-1]["usage"]["prompt_tokens"] > 0


def test_native_and_foreign_models_stand_side_by_side(start_server, foreign_server: ForeignServer):
    config = config_with(foreign_server.url, foreign_server.MODEL)
    config["models"].append({"id": MODEL, "source": MODEL_FILE})
    server = start_server(config=config).wait_ready()

    server.check_alive()
    reply = server.post("/v1/chat/completions", chat_body(THEIRS, "plain"))

    assert reply.json["choices"][0]["message"]["content"] == "".join(foreign_server.WORDS)


def test_a_foreign_stream_comes_out_by_our_rules(gateway: Serve, foreign_server: ForeignServer):
    with gateway.stream_chat("plain please", headers={"x-request-id": "abc"}) as stream:
        chunks = list(stream.chunks())
        assert stream.done

    assert "".join(wire.text_of(chunk) for chunk in chunks) == "".join(foreign_server.WORDS)
    roles = [chunk for chunk in chunks if chunk["choices"][0]["delta"].get("role")]
    assert roles == chunks[:1]
    assert {chunk["model"] for chunk in chunks} == {THEIRS}
    assert len({chunk["id"] for chunk in chunks}) == 1 and chunks[0]["id"] != "x"
    assert chunks[-1]["choices"][0] == {**chunks[-1]["choices"][0], "delta": {},
                                        "finish_reason": "stop"}


def test_a_foreign_worker_is_asked_in_its_own_terms(gateway: Serve, foreign_server: ForeignServer):
    """Its own name for the model, always streamed with usage, unknown fields passed unchanged,
    nothing added where the client said nothing, and no extension object."""
    reply = gateway.post("/v1/chat/completions", {
        "model": THEIRS, "messages": [{"role": "user", "content": "plain"}],
        "their_own_field": {"b": 1, "a": 2}, "n": 1},
        headers={"x-request-id": "abc", "authorization": "Bearer secret-of-the-client"})

    asked = foreign_server.requests[-1]
    assert reply.status == 200
    assert asked["path"] == "/v1/chat/completions"
    assert asked["body"]["model"] == foreign_server.MODEL
    assert asked["body"]["stream"] is True
    assert asked["body"]["stream_options"] == {"include_usage": True}
    assert asked["body"]["their_own_field"] == {"b": 1, "a": 2}
    assert "temperature" not in asked["body"] and "mlxs" not in asked["body"]
    headers = {name.lower(): value for name, value in asked["headers"].items()}
    assert headers["x-request-id"] == "abc"
    assert "authorization" not in headers


def test_missing_usage_is_not_made_up_into_an_error(gateway: Serve):
    reply = gateway.chat("plain")

    assert reply.status == 200
    assert reply.json["choices"][0]["finish_reason"] == "stop"


def test_a_foreign_server_that_does_not_stream_is_understood(gateway: Serve,
                                                            foreign_server: ForeignServer):
    whole = gateway.chat("whole")
    assert whole.json["choices"][0]["message"]["content"] == "".join(foreign_server.WORDS)
    assert whole.json["usage"]["total_tokens"] == 9

    with gateway.stream_chat("whole") as stream:
        text = "".join(wire.text_of(chunk) for chunk in stream.chunks())
        assert stream.done and text == "".join(foreign_server.WORDS)


def test_an_error_as_a_bare_string_becomes_an_error_object(gateway: Serve):
    reply = gateway.chat("error")

    assert reply.status == 400
    assert "we do not like this prompt" in reply.error["message"]


def test_their_429_is_passed_on(gateway: Serve):
    reply = gateway.chat("overloaded")

    assert reply.status == 429
    assert "retry-after" in reply.headers


def test_a_foreign_stream_that_is_cut_ends_in_an_error_event(gateway: Serve):
    with gateway.stream_chat("cut") as stream:
        chunks = list(stream.chunks())
        assert not stream.done

    assert wire.text_of(chunks[0]) == "Bon" or wire.text_of(chunks[1]) == "Bon"
    assert chunks[-1]["error"]["message"]
    assert gateway.chat("plain").status == 200


def test_a_foreign_server_that_is_not_there_is_a_503_or_502(start_server):
    server = start_server(config=config_with(f"http://127.0.0.1:{free_port()}/v1", "x"),
                          model=THEIRS, sets=("timeouts.worker_wait_ms=300",))
    wait_until("it accepts", lambda: alive(server))

    reply = server.chat("plain")

    assert reply.status in (502, 503), reply.body
    assert reply.headers["x-should-retry"] == "true"
    assert server.get("/ready").status == 503


def alive(server: Serve) -> bool:
    try:
        return server.get("/health").status == 200
    except OSError:
        return False
