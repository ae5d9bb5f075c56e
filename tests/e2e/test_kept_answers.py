"""Kept answers of the shipped server: flushes, switches, policies, restarts, crashes."""

import os
import signal

from support.processes import wait_until
from support.server import MODEL, MODEL_FILE, Serve

NO_DEDUP = "models[0].sharing.dedup.policy=off"
SNAPSHOT = "prompt_cache.snapshot=on"


def ask(server: Serve, text: str = "Hi") -> str:
    """What sharing did for a deterministic request."""
    reply = server.chat_shared(text, temperature=0, max_tokens=3)
    assert reply.status == 200, reply.body
    return reply.headers["x-mlx-cache"]


def entries(server: Serve) -> int:
    return server.admin("cache")["layers"]["prompt_cache"]["entries"]


def test_flushed_answers_are_gone(start_server):
    """R-CACHE-5"""
    server = start_server(sets=(NO_DEDUP,)).wait_ready()
    for scope in ({"scope": "all"}, {"scope": "model", "model": MODEL},
                  {"scope": "tenant", "tenant": ""}):
        assert [ask(server), ask(server)] == ["miss", "hit"]

        assert server.flush(**scope).status == 200

    reply = server.chat_shared("Hi", temperature=0, max_tokens=3)
    assert reply.headers["x-mlx-cache"] == "miss"
    assert ask(server, "Ho") == "miss"
    assert server.flush(scope="key", key=reply.headers["x-mlx-cache-key"]).status == 200
    assert [ask(server, "Ho"), ask(server)] == ["hit", "miss"]


def test_an_unwritable_state_folder_is_said_and_serving_goes_on(start_server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    server = start_server(sets=(NO_DEDUP, f"state_dir={tmp_path / 'file'}")).wait_ready()
    ask(server)

    reply = server.flush(scope="all")

    assert reply.status == 500 and "state_dir" in reply.json["error"]["message"]
    assert ask(server) == "miss"


def test_switches_take_effect_at_once_and_end_with_the_server(start_server):
    server = start_server(sets=(NO_DEDUP,)).wait_ready()
    assert [ask(server), ask(server)] == ["miss", "hit"]

    server.set_feature("prompt_cache", False)
    assert ask(server) == "miss"
    server.send(signal.SIGHUP)
    wait_until("it has reloaded", lambda: "configuration reloaded" in server.log())
    assert ask(server) == "miss"

    server.set_feature("prompt_cache", True)
    assert ask(server) == "hit"


def test_sighup_changes_a_policy(start_server):
    config = {"models": [{"id": MODEL, "source": MODEL_FILE,
                          "sharing": {"dedup": {"policy": "off"}}}]}
    server = start_server(config=config).wait_ready()
    assert [ask(server), ask(server)] == ["miss", "hit"]

    config["models"][0]["sharing"]["prompt_cache"] = {"policy": "off"}
    server.write_config(config)
    server.send(signal.SIGHUP)

    wait_until("the policy is off", lambda: ask(server) != "hit")


def test_a_snapshot_outlives_the_server_but_not_a_flush(start_server, tmp_path):
    """R-CACHE-5: also when the gateway is killed right after the flush."""
    sets = (NO_DEDUP, SNAPSHOT, f"state_dir={tmp_path / 'state'}")
    first = start_server(sets=sets).wait_ready()
    assert [ask(first, "kept"), ask(first, "flushed")] == ["miss", "miss"]
    first.send(signal.SIGTERM)
    assert first.wait() == 0

    second = start_server(sets=sets).wait_ready()
    wait_until("the snapshot is loaded", lambda: entries(second) == 2)
    reply = second.chat_shared("flushed", temperature=0, max_tokens=3)
    assert reply.headers["x-mlx-cache"] == "hit" and int(reply.headers["age"]) >= 0
    assert second.flush(scope="key", key=reply.headers["x-mlx-cache-key"]).status == 200
    killed = second.gateway().pid
    os.kill(killed, signal.SIGKILL)

    wait_until("another gateway serves", lambda: second.gateway().pid != killed
               and second.is_ready() and entries(second) == 1)
    assert ask(second, "kept") == "hit"
    assert ask(second, "flushed") == "miss"


def test_two_servers_on_one_state_folder_keep_apart_and_remember_each_others_flushes(
        start_server, tmp_path):
    """The first has the snapshot, the second says so and goes on without."""
    sets = (NO_DEDUP, SNAPSHOT, f"state_dir={tmp_path / 'state'}")
    first = start_server(sets=sets).wait_ready()
    assert [ask(first, "kept"), ask(first, "flushed")] == ["miss", "miss"]
    second = start_server(sets=sets).wait_ready()
    assert "belongs to another server" in second.log()
    assert "belongs to another server" not in first.log()
    assert [ask(second, "seconds"), ask(second, "kept")] == ["miss", "miss"]
    key = first.chat_shared("flushed", temperature=0, max_tokens=3).headers["x-mlx-cache-key"]
    assert second.flush(scope="key", key=key).status == 200

    for server in (second, first):
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    third = start_server(sets=sets).wait_ready()
    wait_until("the snapshot is loaded", lambda: entries(third) == 1, 10)

    assert [ask(third, "kept"), ask(third, "seconds"), ask(third, "flushed")] == \
        ["hit", "miss", "miss"]


def test_a_damaged_snapshot_is_refused_in_the_log(start_server, tmp_path):
    state = tmp_path / "state"
    sets = (NO_DEDUP, SNAPSHOT, f"state_dir={state}")
    first = start_server(sets=sets).wait_ready()
    ask(first)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    snapshot = state / "prompt_cache"
    snapshot.write_bytes(snapshot.read_bytes()[:-1])

    second = start_server(sets=sets).wait_ready()

    assert ask(second) == "miss"
    wait_until("it is said", lambda: "[snapshot] refused: its checksum is wrong" in second.log())
