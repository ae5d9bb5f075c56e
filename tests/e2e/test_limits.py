"""Every limit and time-out of the front door, exceeded on a server of its own."""

import hashlib
import contextlib
import json
import resource
import socket

import pytest

from support import wire
from support.processes import accepts, wait_until
from support.server import FAR_TOO_MANY, MODEL, MODEL_FILE, Serve, completion_body

LONG = {"max_tokens": FAR_TOO_MANY}
COUNTING = "1, 2, 3, 4, 5, 6,"


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory):
    """Small limits, so that they are reached at once."""
    with Serve(tmp_path_factory.mktemp("strict"), endless=True, sets=(
            "limits.in_flight=2", "limits.body_bytes=4096")) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory):
    """Short times, for clients that exceed them; one that stays within them asks elsewhere."""
    with Serve(tmp_path_factory.mktemp("impatient"), endless=True, sets=(
            "limits.head_read_ms=400", "limits.body_stall_ms=500", "limits.idle_ms=600")) as running:
        wait_until("it accepts", lambda: accepts(running.port))
        yield running


@pytest.fixture(autouse=True)
def everything_else_still_runs(strict_server: Serve):
    yield
    wait_until("nothing is in flight", lambda: strict_server.complete("1, 2,", max_tokens=1)
               .status == 200)


def read_late(server: Serve, sent: bytes) -> bytes:
    """What comes, up to the server's close, when nothing follows `sent`."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(sent)
        return wire.read_to_end(connection)


def test_a_slow_head_gets_a_408(impatient_server: Serve):
    status, _, body = wire.split_answer(read_late(
        impatient_server, b"GET /v1/models HTTP/1.1\r\nhost: 127"))

    assert status == 408
    assert b"request_timeout" in body


def test_a_stalled_body_gets_a_408(impatient_server: Serve):
    raw = read_late(impatient_server, (
        f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{impatient_server.port}"
        "\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{").encode())

    assert wire.split_answer(raw)[0] == 408


def test_an_idle_connection_is_closed_without_an_answer(impatient_server: Serve):
    assert read_late(impatient_server, b"") == b""


def test_a_body_over_the_configured_limit_is_a_413(strict_server: Serve):
    reply = strict_server.complete("a" * 5000)

    assert reply.status == 413


def test_more_than_in_flight_gets_a_429_with_retry_after(strict_server: Serve):
    """R-ADM-1: the bound on requests being answered."""
    with strict_server.stream_completion(COUNTING, **LONG) as one, \
            strict_server.stream_completion(COUNTING, **LONG) as two:
        next(one.chunks()), next(two.chunks())

        refused = strict_server.complete("1, 2,", max_tokens=1)

        assert refused.status == 429
        assert refused.error["type"] == "rate_limit_error"
        assert float(refused.headers["retry-after"]) >= 0
        assert refused.headers["x-should-retry"] == "true"
        assert strict_server.get("/health").status == 200
        assert strict_server.get("/v1/models").status == 200


def test_a_shells_bound_on_descriptors_bounds_no_connections(start_server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        server = start_server(endless=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.wait_ready()

    with contextlib.ExitStack() as open_streams:
        for _ in range(60):  # Two descriptors each in the gateway.
            stream = open_streams.enter_context(server.stream_completion(COUNTING, **LONG))
            assert stream.status == 200


def test_a_full_worker_queue_gets_a_429(start_server):
    server = start_server(endless=True, sets=(
        "models[0].batch.max_sequences=1", "models[0].queue.waiting=1",
        "timeouts.worker_wait_ms=300", "timeouts.keep_alive_ms=100")).wait_ready()
    with server.stream_completion(COUNTING, **LONG) as one:
        next(one.chunks())
        with server.stream_completion(COUNTING, **LONG) as waiting:
            wait_until("the queue is full", lambda: server.workers()[0]["waiting"] == 1)

            refused = server.complete(COUNTING, max_tokens=1)

            assert refused.status == 429, refused.body
            assert refused.error["type"] == "rate_limit_error"
            assert "retry-after" in refused.headers
            waiting.close()
    wait_until("both have gone", lambda: server.running_sequences() == 0)
    server.check_alive()


def test_keys_are_asked_for_where_they_are_configured(start_server):
    server = start_server(config={
        "keys": [{"name": "alice", "sha256": hashed("sk-alice")},
                 {"name": "bob", "sha256": hashed("sk-bob")}],
        "models": [{"id": MODEL, "source": MODEL_FILE}]}).wait_ready()
    body = completion_body(MODEL, "1, 2, 3,", max_tokens=1)

    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "},
                    {"authorization": "sk-alice"}, {"authorization": "Basic sk-alice"},
                    {"authorization": "Bearer " + hashed("sk-alice")}):
        reply = server.post("/v1/completions", body, headers=headers)
        assert reply.status == 401, headers
        assert reply.error["code"] == "invalid_api_key"
        assert "sk-alice" not in reply.error["message"]
        assert server.get("/v1/models", headers=headers).status == 401

    for secret in ("sk-alice", "sk-bob"):
        assert server.post("/v1/completions", body, headers={
            "authorization": f"Bearer {secret}"}).status == 200
    assert server.get("/health").status == 200


def test_a_key_is_ignored_where_none_is_configured(strict_server: Serve):
    reply = strict_server.get("/v1/models", headers={"authorization": "Bearer whatever"})

    assert reply.status == 200


def test_an_answer_over_its_bound_ends_in_an_error_event(start_server):
    server = start_server(sets=("limits.answer_bytes=1KiB",)).wait_ready()
    with server.stream_completion(COUNTING, max_tokens=1500) as stream:
        last = list(stream.chunks())[-1]
        assert not stream.done

    assert last["error"]["message"]
    wait_until("the sequence stops", lambda: server.running_sequences() == 0)
    server.check_alive()


def test_the_requests_own_deadline_ends_it(strict_server: Serve):
    whole = strict_server.post("/v1/completions", headers={"x-request-timeout-ms": "300"},
                               body=completion_body(MODEL, COUNTING, **LONG))

    assert whole.status == 504
    assert whole.error["code"] == "deadline_exceeded"
    wait_until("the sequence stops", lambda: strict_server.running_sequences() == 0)


def test_a_deadline_in_mid_stream_is_the_last_event(strict_server: Serve):
    for milliseconds in (300, 1000, 3000, 10_000, 30_000):  # Until a stream begins in time.
        headers = {"x-request-timeout-ms": str(milliseconds)}
        with strict_server.stream_completion(COUNTING, headers=headers, **LONG) as stream:
            if stream.status == 200:
                last = list(stream.chunks())[-1]
                break

    assert last["error"]["code"] == "deadline_exceeded" and not stream.done
    wait_until("the sequence stops", lambda: strict_server.running_sequences() == 0)


def test_a_queued_stream_is_kept_alive_by_comments(start_server):
    """R-STR-5: sent while the worker has no time for it, so it has to wait."""
    server = start_server(sets=("timeouts.keep_alive_ms=50",), endless=True).wait_ready()
    body = json.dumps(completion_body(MODEL, "1, 2, 3,", max_tokens=2, stream=True)).encode()

    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        raw = b""
        with server.workers_paused():
            connection.sendall((
                f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
                f"connection: close\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n").encode() + body)
            while b"\n: " not in raw:
                block = connection.recv(65536)
                assert block, raw
                raw += block
        raw += wire.read_to_end(connection)

    status, _, answer = wire.split_answer(raw)
    assert status == 200
    assert answer.startswith(b": ")
    assert answer.endswith(b"data: [DONE]\n\n")
