"""kill -9 for each kind of process while streams run."""

import os
import signal
import socket
import threading
import time

import pytest

from support.processes import can_bind, still_running, wait_until
from support.server import FAR_TOO_MANY, Serve
from support.wire import Cut, Stream

COUNTING = "1, 2, 3, 4, 5, 6,"


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory):
    """A server with two workers, whose processes the tests kill while streams last."""
    with Serve(tmp_path_factory.mktemp("fragile"), sets=("models[0].workers=2",),
               endless=True) as running:
        wait_for_workers(running.wait_ready())
        yield running


def wait_for_workers(server: Serve) -> None:
    wait_until("both workers are ready",
               lambda: [one["ready"] for one in server.workers()] == [True, True])


def start_stream(server: Serve) -> tuple[Stream, object]:
    """A stream that has its first tokens."""
    stream = server.stream_completion(COUNTING, max_tokens=FAR_TOO_MANY)
    assert stream.status == 200
    chunks = stream.chunks()
    for _ in range(3):
        next(chunks)
    return stream, chunks


def test_a_killed_worker_ends_its_streams_with_an_error_and_comes_back(fragile: Serve):
    """Round robin puts one stream on each worker: the one's client gets an error event, not
    silence and not [DONE]; the other's stream goes on. R-STR-5."""
    wait_for_workers(fragile)
    pairs = [start_stream(fragile), start_stream(fragile)]
    wait_until("each worker runs one",
               lambda: [one["running"] for one in fragile.workers()] == [1, 1])
    victim = fragile.workers()[0]

    os.kill(victim["pid"], signal.SIGKILL)
    killed_at = time.monotonic()

    ended: list[tuple[Stream, dict]] = []
    going_on: list[Stream] = []
    one_ended = threading.Event()

    def follow(stream: Stream, chunks) -> None:
        """Reads on: what was on its way before the kill proves nothing, so a stream goes on only
        if it still brings chunks once the other has ended."""
        after = 0
        for chunk in chunks:
            if "error" in chunk:
                ended.append((stream, chunk["error"]))
                one_ended.set()
                assert next(chunks, None) is None  # Nothing follows.
                return
            after += one_ended.is_set()
            if after == 40:
                going_on.append(stream)
                return

    threads = [threading.Thread(target=follow, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 1 and len(going_on) == 1
    assert ended[0][1]["code"] == "worker_lost" and ended[0][1]["message"]
    assert not ended[0][0].done
    for stream, _ in pairs:
        stream.close()

    fragile.check_alive()  # The other worker answers meanwhile.
    wait_for_workers(fragile)
    print(f"back after {time.monotonic() - killed_at:.2f} s")
    reborn = next(one for one in fragile.workers() if one["id"] == victim["id"])
    assert reborn["pid"] != victim["pid"] and reborn["restarts"] >= 1
    for _ in range(2):
        fragile.check_alive()


def test_a_hung_worker_ends_its_stream_with_an_error(start_server):
    """R-ENG-7: an open socket is no sign of life. The worker is stopped, not ended; once it goes on
    it serves again."""
    server = start_server(sets=("timeouts.token_ms=1500",), endless=True).wait_ready()
    stream, chunks = start_stream(server)
    pid = server.workers()[0]["pid"]

    os.kill(pid, signal.SIGSTOP)
    last = list(chunks)[-1]

    assert last["error"]["message"] and not stream.done
    stream.close()
    wait_until("it is not ready any more", lambda: server.get("/ready").status == 503)
    os.kill(pid, signal.SIGCONT)
    wait_until("it serves again", lambda: server.get("/ready").status == 200)
    server.check_alive()


def test_requests_that_saw_no_token_yet_survive_a_killed_worker_or_say_so(fragile: Serve):
    """No request hangs and none gets a broken answer when its worker dies under it."""
    wait_for_workers(fragile)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(
        fragile.complete("The capital of France is " * 20, max_tokens=4))) for _ in range(6)]
    with fragile.workers_paused():  # So that nobody has a token.
        for thread in threads:
            thread.start()
        wait_until("each has its worker", lambda: fragile.metric("mlx_worker_inflight") == 6)
        os.kill(fragile.workers()[1]["pid"], signal.SIGKILL)
    for thread in threads:
        thread.join()

    assert len(replies) == 6
    for reply in replies:
        if reply.status == 200:
            assert reply.json["usage"]["completion_tokens"] == 4
        else:
            assert reply.status in (502, 503), reply.body
            assert reply.headers["x-should-retry"] == "true"
    assert any(reply.status == 200 for reply in replies)


def test_a_killed_gateway_refuses_no_connection_and_serves_again(fragile: Serve):
    """R-ROLL-5. The supervisor holds the listener, so connects wait in its backlog meanwhile; the
    workers stay as they are."""
    wait_for_workers(fragile)
    workers = {process.pid for process in fragile.worker_processes()}
    streams = [start_stream(fragile), start_stream(fragile)]
    refused: list[OSError] = []
    connects = 0
    stop = threading.Event()

    def connect_all_the_time() -> None:
        nonlocal connects
        while not stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", fragile.port), timeout=90).close()
                connects += 1
            except OSError as error:
                refused.append(error)
            stop.wait(0.002)

    connecting = threading.Thread(target=connect_all_the_time)
    connecting.start()
    gateway = fragile.gateway()

    os.kill(gateway.pid, signal.SIGKILL)
    killed_at = time.monotonic()

    def serves() -> bool:
        try:
            return fragile.get("/v1/models", timeout=30).status == 200
        except OSError:
            return False  # A connection that the dead gateway had accepted is reset.

    wait_until("it serves again", serves)
    again = time.monotonic() - killed_at
    fragile.check_alive()
    answered = time.monotonic() - killed_at
    stop.set()
    connecting.join()
    print(f"serves again after {again:.3f} s, first answer after {answered:.3f} s, "
          f"{connects} connects meanwhile")
    assert refused == []
    assert fragile.gateway().pid != gateway.pid
    assert {process.pid for process in fragile.worker_processes()} == workers
    for stream, _ in streams:
        stream.close()
    wait_until("the workers dropped what nobody waits for",
               lambda: fragile.running_sequences() == 0)


def test_a_stream_is_cut_visibly_when_the_gateway_dies(fragile: Serve):
    """Never a silent truncation: the chunked body lacks its end."""
    stream, chunks = start_stream(fragile)

    os.kill(fragile.gateway().pid, signal.SIGKILL)

    with pytest.raises(Cut):
        for _ in chunks:
            pass
    assert not stream.done
    stream.close()
    fragile.wait_ready()


@pytest.mark.parametrize("endless", [True, False], ids=["streaming", "real-model"])
def test_nothing_stays_behind_a_killed_supervisor(start_server, endless: bool):
    server = start_server(endless=endless).wait_ready()
    stream, _ = start_stream(server)
    family = [p for p in still_running(server.worker_processes() + [server.gateway()])]
    assert len(family) == 2

    server.process.kill()
    server.process.wait()

    wait_until("gateway and worker are gone", lambda: not still_running(family))
    wait_until("the ports are free",
               lambda: can_bind(server.port) and can_bind(server.admin_port))
    stream.close()


def test_a_worker_that_keeps_dying_is_restarted_more_and_more_slowly(start_server):
    """Exponential delay; the state says what goes on, and another kill changes nothing for those
    who wait: their request is answered once the worker is back."""
    server = start_server().wait_ready()
    for _ in range(3):
        pid = wait_until("the worker runs", lambda: next(
            (one["pid"] for one in server.workers() if one["ready"]), None))
        os.kill(pid, signal.SIGKILL)
        wait_until("it is noticed", lambda: server.workers()[0]["pid"] != pid)

    server.check_alive()  # Parked until a worker is ready.

    assert server.workers()[0]["restarts"] == 3
