"""Equal requests share one generation of the real engine, and say so."""

import json
import socket
from typing import Any

from support import wire
from support.processes import wait_until
from support.server import Serve, chat_body, completion_body

SHARED: dict[str, Any] = {"x-mlx-cache": None}
CLIENTS = 1000


def raw_request(server: Serve, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(text)}\r\n"
            "connection: close\r\n\r\n").encode() + text


def streamed_text(body: bytes) -> str:
    events = [line[len("data: "):] for line in body.decode().splitlines()
              if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return "".join(wire.text_of(json.loads(event)) for event in events[:-1])


def test_a_thousand_equal_streams_are_one_generation_with_equal_text(server: Serve):
    """R-COAL-1"""
    before = server.metric("mlx_coalesce_flights_total")
    request = raw_request(server, chat_body(server.model, "Count from one to twenty.",
                                            temperature=1, max_tokens=48, stream=True))
    connections = []
    with server.workers_paused():  # No answer before all have asked.
        for _ in range(CLIENTS):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
            connection.sendall(request)
            connections.append(connection)
        wait_until("all have joined", lambda: server.metric("mlx_flight_subscribers") == CLIENTS)

    texts, results = set(), []
    for connection in connections:
        with connection:
            status, headers, body = wire.split_answer(wire.read_to_end(connection))
        assert status == 200
        results.append(headers["x-mlx-cache"])
        texts.add(streamed_text(body))

    assert len(texts) == 1 and texts.pop()
    assert server.metric("mlx_coalesce_flights_total") - before == 1
    assert results.count("miss") == 1
    assert results.count("coalesced") == CLIENTS - 1


def test_a_deterministic_answer_is_served_again_and_says_so(server: Serve):
    """R-CACHE-6"""
    body = completion_body(server.model, "The capital of France is", max_tokens=4)

    first = server.post("/v1/completions", body, headers=SHARED)
    again = server.post("/v1/completions", body, headers=SHARED)

    assert first.headers["x-mlx-cache"] == "miss"
    assert again.headers["x-mlx-cache"] in ("dedup", "hit")
    assert again.headers["x-mlx-cache-key"] == first.headers["x-mlx-cache-key"]
    assert int(again.headers["age"]) >= 0
    assert again.json["choices"] == first.json["choices"]
    usage = again.json["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]


def test_spelling_that_cannot_matter_is_shared_and_what_can_is_not(server: Serve):
    """R-CACHE-1, with the digests that the real worker reports."""
    body = chat_body(server.model, "Say hello.", max_tokens=3)
    assert server.post("/v1/chat/completions", body, headers=SHARED) \
        .headers["x-mlx-cache"] == "miss"

    for same in ({**body, "user": "x"}, {**body, "temperature": 0.0}, {**body, "n": 1},
                 dict(reversed(body.items()))):
        reply = server.post("/v1/chat/completions", same, headers=SHARED)
        assert reply.headers["x-mlx-cache"] in ("dedup", "hit"), same
    for other in ({**body, "max_tokens": 4}, {**body, "temperature": 0.5}, {**body, "seed": 1}):
        reply = server.post("/v1/chat/completions", other, headers=SHARED)
        assert reply.headers["x-mlx-cache"] == "miss", other
