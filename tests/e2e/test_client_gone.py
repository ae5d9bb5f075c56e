"""A client that leaves ends its sequence; nobody generates for nobody."""

import concurrent.futures
import http.client
import json
import pathlib
import random
import socket
import sys
import time

import pytest

from support import wire
from support.processes import wait_until
from support.server import FAR_TOO_MANY, Serve, completion_body

COUNTING = "1, 2, 3, 4, 5, 6,"


def test_the_sequence_of_a_client_that_left_stops(endless: Serve):
    stream = endless.stream_completion(COUNTING, max_tokens=FAR_TOO_MANY)
    chunks = stream.chunks()
    for _ in range(3):
        next(chunks)
    wait_until("the worker reports it", lambda: endless.running_sequences() == 1)

    stream.close()

    began = time.monotonic()
    wait_until("the sequence stops", lambda: endless.running_sequences() == 0)
    print(f"stopped after {time.monotonic() - began:.2f} s")
    endless.check_alive()


def test_the_sequence_of_a_client_that_left_before_a_whole_answer_stops(endless: Serve):
    connection = http.client.HTTPConnection("127.0.0.1", endless.port)
    body = completion_body(endless.model, COUNTING, max_tokens=FAR_TOO_MANY)
    wire.send_request(connection, "POST", "/v1/completions", body, None)
    wait_until("it runs", lambda: endless.running_sequences() == 1)

    connection.close()

    wait_until("the sequence stops", lambda: endless.running_sequences() == 0)
    endless.check_alive()


def test_the_others_go_on_when_some_leave(server: Serve):
    """Half of eight leave after two tokens; the other half gets its whole answer. Here and below with
    the real engine, which may well have made a whole answer before its client left."""
    def run(client: int) -> str:
        leaves = client % 2 == 0
        text = ""
        with server.stream_completion(f"{client}1, {client}2, {client}3, {client}4,",
                                      max_tokens=1500 if leaves else 9) as stream:
            for seen, chunk in enumerate(stream.chunks()):
                text += wire.text_of(chunk)
                if leaves and seen == 2:
                    return ""
            assert stream.done
        return text

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(run, range(2, 10)))

    for client, text in zip(range(2, 10), texts):
        if client % 2:
            assert text.startswith(f" {client}5, {client}6"), texts
    wait_until("nothing runs any more", lambda: server.running_sequences() == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_clients_that_leave_at_any_point_leave_nothing_behind(server: Serve):
    """Cuts at every stage, from half a head to the middle of a stream, in a seeded random order."""
    def descriptors() -> list[int]:
        return [len(list(pathlib.Path(f"/proc/{process.pid}/fd").iterdir()))
                for process in (server.gateway(), *server.worker_processes())]

    def leave(seed: int) -> None:
        chance = random.Random(seed)
        body = json.dumps(completion_body(server.model, COUNTING, stream=chance.random() < 0.7,
                                          max_tokens=1500)).encode()
        raw = (f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
               f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
               ).encode() + body
        cut = len(raw) if chance.random() < 0.6 else chance.randrange(len(raw))
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(raw[:cut])
            connection.settimeout(chance.random())
            try:
                for _ in range(chance.randrange(4)):
                    connection.recv(256)
            except TimeoutError:
                pass
            if chance.random() < 0.5:  # A reset instead of an orderly end.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    server.check_alive()
    before = descriptors()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(leave, range(120)))

    wait_until("nothing runs or waits", lambda: server.running_sequences() == 0
               and sum(one["waiting"] for one in server.workers()) == 0)
    # Warm pooled connections may stay: two ends for each of the twelve at once.
    wait_until("descriptors are back", lambda: all(
        now <= then + 14 for now, then in zip(descriptors(), before)))
    server.check_alive()
