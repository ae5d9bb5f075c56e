"""What the front door answers to requests that never become a generation. After each, the server
still answers everybody else."""

import http.client
import json
import socket

import pytest

from support import wire
from support.processes import accepts, wait_until
from support.server import MODEL, Serve, chat_body


@pytest.fixture(autouse=True)
def everything_else_still_runs(server: Serve):
    yield
    server.check_alive()


def test_malformed_json_is_a_400_without_a_parameter(server: Serve):
    for body in (b"{", b"", b"[1,2", b"nonsense", b'{"model": "x",}', b"\xff\xfe", b"[]", b"7"):
        reply = server.post("/v1/chat/completions", body)

        assert reply.status == 400, body
        assert reply.error["type"] == "invalid_request_error"
        assert reply.error["param"] is None
        assert reply.headers["x-should-retry"] == "false"


def test_json_nested_beyond_the_limit_is_a_400(server: Serve):
    body = b'{"model":"x","metadata":' + b"[" * 200 + b"]" * 200 + b"}"

    assert server.post("/v1/chat/completions", body).status == 400


def test_an_unknown_model_is_a_404_model_not_found(server: Serve):
    for target, body in (("chat/completions", chat_body("no-such-model", "Hi")),
                         ("completions", {"model": "no-such-model", "prompt": "Hi"})):
        reply = server.post(f"/v1/{target}", body)

        assert reply.status == 404
        assert reply.error["code"] == "model_not_found"
        assert "no-such-model" in reply.error["message"]


def test_a_model_can_be_retrieved_also_by_an_escaped_name(server: Serve):
    escaped = MODEL.replace("-", "%2D")

    assert server.get(f"/v1/models/{MODEL}").json["id"] == MODEL
    assert server.get(f"/v1/models/{escaped}").json["id"] == MODEL
    assert server.get("/v1/models/some%2Fother").error["code"] == "model_not_found"


def test_a_model_name_with_a_slash_is_found_raw_and_escaped(start_server):
    server = start_server(config={"models": [{"id": "org/model", "workers": [
        {"kind": "url", "url": "http://127.0.0.1:9/v1"}]}]})
    wait_until("it accepts", lambda: accepts(server.port))

    assert server.get("/v1/models/org/model").json["id"] == "org/model"
    assert server.get("/v1/models/org%2Fmodel").json["id"] == "org/model"


def test_an_unknown_route_is_a_404(server: Serve):
    for target in ("/v1/chat", "/", "/v2/models", "/v1/chat/completions/", "/metrics", "/tokenize"):
        reply = server.get(target)

        assert reply.status == 404, target
        assert reply.error["type"] == "invalid_request_error"


def test_a_wrong_method_is_a_405_that_says_what_is_allowed(server: Serve):
    for method, target, allowed in (("GET", "/v1/chat/completions", "POST"),
                                    ("DELETE", "/v1/completions", "POST"),
                                    ("POST", "/v1/models", "GET"), ("PUT", "/health", "GET")):
        reply = wire.request(server.port, method, target)

        assert reply.status == 405, target
        assert allowed in reply.headers["allow"]
        assert reply.error["code"] == "method_not_allowed"


def test_a_body_that_is_not_json_by_its_type_is_a_415(server: Serve):
    reply = server.post("/v1/chat/completions", json.dumps(chat_body(MODEL, "Hi")).encode(),
                        headers={"content-type": "text/plain"})

    assert reply.status == 415
    assert reply.error["code"] == "unsupported_media_type"


def test_a_foreign_host_header_is_a_403(server: Serve):
    """A page that rebinds its name to this address is kept out."""
    reply = server.get("/v1/models", headers={"host": "evil.example:8080"})

    assert reply.status == 403
    assert reply.error["type"] == "permission_error"


def test_a_web_page_is_a_403(server: Serve):
    reply = server.post("/v1/chat/completions", chat_body(MODEL, "Hi"),
                        headers={"origin": "https://evil.example"})

    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


def test_a_body_of_20_megabytes_gets_a_413_that_the_client_can_read(server: Serve):
    """The client writes its whole body before it reads, as most do; the answer must survive."""
    size = 20 * 1024 * 1024
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(size))
    connection.endheaders()
    block = b" " * 65536
    for _ in range(size // len(block)):
        connection.send(block)

    answer = connection.getresponse()

    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "request_too_large"
    connection.close()


def test_a_chunked_body_of_20_megabytes_gets_a_413_that_the_client_can_read(server: Serve):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    blocks = (b" " * 65536 for _ in range(320))
    connection.request("POST", "/v1/chat/completions", body=blocks, encode_chunked=True,
                       headers={"content-type": "application/json",
                                "transfer-encoding": "chunked"})

    answer = connection.getresponse()

    assert answer.status == 413
    answer.read()
    connection.close()


def test_too_large_a_head_is_a_431(server: Serve):
    assert server.get("/v1/models", headers={"x-filler": "a" * 20_000}).status == 431

    many = {f"x-filler-{i}": "a" for i in range(150)}
    assert server.get("/v1/models", headers=many).status == 431


def test_length_and_chunking_together_are_refused(server: Serve):
    """The classic request smuggling."""
    raw = wire.exchange_bytes(server.port, (
        f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
        "content-type: application/json\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
        "0\r\n\r\n").encode())

    status, headers, _ = wire.split_answer(raw)
    assert status == 400
    assert headers["connection"] == "close"


def test_what_is_not_http_is_refused_and_closed(server: Serve):
    client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"

    raw = wire.exchange_bytes(server.port, client_hello)

    assert raw == b"" or wire.split_answer(raw)[0] == 400


def test_expect_100_continue_is_answered(server: Serve):
    body = json.dumps(chat_body(MODEL, "Hi", max_tokens=1)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall((
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
            "content-type: application/json\r\nexpect: 100-continue\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode())

        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")

        connection.sendall(body)
        assert wire.split_answer(wire.read_to_end(connection))[0] == 200


def test_a_connection_serves_many_requests(server: Serve):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.connect()
    socket_used = connection.sock
    for body in ({"model": "no-such"}, chat_body(MODEL, "Hi", max_tokens=1), {}, None):
        wire.send_request(connection, "POST" if body is not None else "GET",
                          "/v1/chat/completions" if body is not None else "/v1/models", body, None)
        connection.getresponse().read()

        assert connection.sock is socket_used
    connection.close()
