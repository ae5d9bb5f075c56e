"""The admin listener shows what runs."""

import hashlib

import pytest

from support import wire
from support.processes import still_running, wait_until
from support.server import MODEL, Serve


def test_status_names_version_and_readiness(server: Serve):
    status = server.admin("status")

    assert status["ready"] is True
    assert status["version"]


def test_workers_are_listed_with_their_load(server: Serve):
    wait_until("nothing runs", lambda: server.running_sequences() == 0)

    (worker,) = server.workers()

    assert worker["id"] == f"{MODEL}/0" and worker["model"] == MODEL
    assert worker["state"] == "ready" and worker["ready"] is True
    assert worker["pid"] in {process.pid for process in still_running(server.worker_processes())}
    assert worker["restarts"] == 0 and worker["running"] == 0 and worker["waiting"] == 0


def test_models_are_listed(server: Serve):
    assert [one["id"] for one in server.admin("models")["models"]] == [MODEL]


def test_the_configuration_in_force_is_shown_without_secrets(start_server):
    digest = hashlib.sha256(b"sk-alice").hexdigest()
    server = start_server(config={
        "keys": [{"name": "alice", "sha256": digest}],
        "models": [{"id": "later", "workers": [{"kind": "url", "url": "http://127.0.0.1:9/v1"}]}]})
    wait_until("it serves", lambda: is_healthy(server))

    reply = wire.request(server.admin_port, "GET", "/admin/v1/config",
                         headers={"authorization": "Bearer sk-alice"})

    assert reply.status == 200
    assert "alice" in reply.body.decode() and digest not in reply.body.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_where_keys_are_set_the_admin_listener_asks_for_one(start_server, host):
    """But never for its health."""
    server = start_server(admin_host=host, config={
        "keys": [{"name": "alice", "sha256": hashlib.sha256(b"sk-alice").hexdigest()}],
        "models": [{"id": "later", "workers": [{"kind": "url", "url": "http://127.0.0.1:9/v1"}]}]})
    wait_until("it serves", lambda: is_healthy(server))

    for target in ("/metrics", "/admin/v1/status", "/admin/v1/config"):
        assert wire.request(server.admin_port, "GET", target).status == 401
        assert wire.request(server.admin_port, "GET", target,
                            headers={"authorization": "Bearer sk-alice"}).status == 200
    assert wire.request(server.admin_port, "GET", "/ready").status == 503


def is_healthy(server: Serve) -> bool:
    try:
        return wire.request(server.admin_port, "GET", "/health").status == 200
    except OSError:
        return False


def test_the_two_listeners_do_not_serve_each_others_routes(server: Serve):
    assert server.get("/admin/v1/status").status == 404
    assert server.get("/metrics").status == 404
    assert wire.request(server.admin_port, "POST", "/v1/completions", {}).status in (404, 405)


def test_the_admin_listener_has_the_same_guards(server: Serve):
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert wire.request(server.admin_port, "GET", "/admin/v1/status",
                            headers=headers).status == 403
    assert wire.request(server.admin_port, "POST", "/admin/v1/status").status == 405
    assert wire.request(server.admin_port, "GET", "/admin/v1/nothing").status == 404
