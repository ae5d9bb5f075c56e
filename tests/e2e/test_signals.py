"""SIGTERM drains, SIGHUP rereads, a port in use is said plainly."""

import hashlib
import http.client
import signal
import socket
import subprocess
import threading

from support import wire
from support.processes import accepts, binary, free_port, repository, wait_until
from support.server import DEFAULT_CONFIG, FAR_TOO_MANY, MODEL, MODEL_FILE

COUNTING = "1, 2, 3, 4, 5, 6,"


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_sigterm_lets_the_running_stream_complete_and_exits_0(start_server):
    server = start_server().wait_ready()
    stream = server.stream_completion(COUNTING, max_tokens=60)
    chunks = stream.chunks()
    next(chunks)

    server.send(signal.SIGTERM)

    wait_until("new requests are turned away", lambda: turned_away(server.port))
    text = "".join(wire.text_of(chunk) for chunk in chunks)
    assert stream.done, server.log()
    assert text.count(",") >= 10
    stream.close()
    assert server.wait() == 0


def turned_away(port: int) -> bool:
    """Refused, closed, or told 503: not served."""
    try:
        reply = wire.request(port, "POST", "/v1/completions", {"model": MODEL, "prompt": "1,",
                                                                 "max_tokens": 1}, timeout=120)
        return reply.status == 503
    except (OSError, http.client.HTTPException):
        return True


def test_sigterm_ends_at_the_drain_limit_at_the_latest(start_server):
    server = start_server(sets=("timeouts.drain_ms=500",), endless=True).wait_ready()
    stream = server.stream_completion(COUNTING, max_tokens=FAR_TOO_MANY)
    chunks = stream.chunks()
    next(chunks)

    server.send(signal.SIGTERM)

    assert server.wait() == 0
    last = None
    try:
        for last in chunks:
            pass
    except wire.Cut:
        pass  # Cut visibly is right too; a complete-looking end is not.
    assert not stream.done
    assert last is None or "error" in last or last["choices"][0]["finish_reason"] is None
    stream.close()


def test_two_sigterms_are_as_good_as_one(start_server):
    """R-ROLL-6"""
    server = start_server().wait_ready()

    server.send(signal.SIGTERM)
    server.send(signal.SIGTERM)

    assert server.wait() == 0


def test_sigterm_while_the_model_loads_ends_it_at_once(start_server):
    """R-ROLL-6"""
    server = start_server()
    wait_until("a worker is started", server.worker_processes)

    server.send(signal.SIGTERM)

    assert server.wait() == 0


def test_sighup_takes_new_keys_and_limits_and_refuses_a_broken_file(start_server):
    def config(secret: str, **limits: int) -> dict:
        return {"keys": [{"name": "someone", "sha256": hashed(secret)}], "limits": limits,
                "models": [{"id": MODEL, "source": MODEL_FILE}]}

    def status(secret: str) -> int:
        return server.get("/v1/models", headers={"authorization": f"Bearer {secret}"}).status

    server = start_server(config=config("sk-old"))
    server.wait_ready()
    workers = {p.pid for p in server.worker_processes()}
    assert (status("sk-old"), status("sk-new")) == (200, 401)

    server.write_config(config("sk-new", body_bytes=2048))
    server.send(signal.SIGHUP)
    wait_until("the new key is taken", lambda: status("sk-new") == 200)

    assert status("sk-old") == 401
    big = server.post("/v1/completions", {"model": MODEL, "prompt": "a" * 4000},
                      headers={"authorization": "Bearer sk-new"})
    assert big.status == 413

    server.config_path.write_text("models: [\n  { id: x, sourcee: y }\n]\n")
    server.send(signal.SIGHUP)
    wait_until("the fault is logged", lambda: "sourcee" in server.log())

    assert str(server.config_path) in server.log()
    assert status("sk-new") == 200
    server.check_alive(headers={"authorization": "Bearer sk-new"})
    assert {p.pid for p in server.worker_processes()} == workers


def test_sighup_disturbs_no_stream(start_server):
    server = start_server().wait_ready()
    stream = server.stream_completion(COUNTING, max_tokens=40)
    chunks = stream.chunks()
    next(chunks)

    for _ in range(3):
        server.send(signal.SIGHUP)
        next(chunks)

    for _ in chunks:
        pass
    assert stream.done
    stream.close()


def serve_on(port: int, admin_port: int) -> subprocess.CompletedProcess:
    return subprocess.run(
        [binary("mlx-serving"), "serve", "--config", DEFAULT_CONFIG, "--listen",
         f"127.0.0.1:{port}", "--set", f"admin.listen=127.0.0.1:{admin_port}"],
        capture_output=True, text=True, timeout=120, cwd=repository())


def test_a_port_in_use_is_an_error_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for ports in ((port, free_port()), (free_port(), port)):
            ended = serve_on(*ports)

            assert ended.returncode != 0
            assert f"127.0.0.1:{port}" in ended.stderr
            assert "in use" in ended.stderr


def test_a_second_server_leaves_the_first_alone(start_server):
    server = start_server().wait_ready()

    assert serve_on(server.port, server.admin_port).returncode != 0

    server.check_alive()


def test_requests_during_the_load_wait_for_it(start_server):
    """Connects succeed from the first moment, the list of models never waits, and a request sent
    while the model loads is answered once it has loaded (timeouts.worker_wait_ms)."""
    server = start_server()
    wait_until("it accepts", lambda: accepts(server.port))
    assert server.get("/health").status == 200
    assert [one["id"] for one in server.get("/v1/models").json["data"]] == [MODEL]

    replies = []
    threads = [threading.Thread(target=lambda: replies.append(server.complete("1, 2,")))
               for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [reply.status for reply in replies] == [200, 200, 200], replies
    assert server.get("/ready").status == 200
