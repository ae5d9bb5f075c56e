"""A client that leaves ends its sequence; nobody generates for nobody."""

import concurrent.futures
import http.client
import time

from support import wire
from support.processes import wait_until
from support.server import Serve, completion_body

COUNTING = "1, 2, 3, 4, 5, 6,"
FAR_TOO_MANY = 1500  # Tokens. Far more than can be generated while a test waits for the end.


def test_the_sequence_of_a_client_that_left_stops(server: Serve):
    stream = server.stream_completion(COUNTING, max_tokens=FAR_TOO_MANY)
    chunks = stream.chunks()
    for _ in range(3):
        next(chunks)
    wait_until("the worker reports it", lambda: server.running_sequences() == 1)

    stream.close()

    began = time.monotonic()
    wait_until("the sequence stops", lambda: server.running_sequences() == 0, 5)
    print(f"stopped after {time.monotonic() - began:.2f} s")
    server.check_alive()


def test_the_sequence_of_a_client_that_left_before_a_whole_answer_stops(server: Serve):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = completion_body(server.model, COUNTING, max_tokens=FAR_TOO_MANY)
    wire.send_request(connection, "POST", "/v1/completions", body, None)
    wait_until("it runs", lambda: server.running_sequences() == 1)

    connection.close()

    wait_until("the sequence stops", lambda: server.running_sequences() == 0, 5)
    server.check_alive()


def test_the_others_go_on_when_some_leave(server: Serve):
    """Half of eight leave after two tokens; the other half gets its whole answer."""
    def run(client: int) -> str:
        leaves = client % 2 == 0
        text = ""
        with server.stream_completion(f"{client}1, {client}2, {client}3, {client}4,",
                                      max_tokens=FAR_TOO_MANY if leaves else 9) as stream:
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
    wait_until("nothing runs any more", lambda: server.running_sequences() == 0, 5)
