"""HTTP and server-sent events close to the bytes, where a client library would hide them."""

import contextlib
import http.client
import json
import socket
from typing import Any, Iterator, NamedTuple


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, with OpenAI's four members and no others missing (R: section 2)."""
        assert self.headers.get_content_type() == "application/json", (self.status, self.body)
        error = self.json["error"]
        assert isinstance(error, dict), error
        assert {"message", "type", "param", "code"} <= error.keys(), error
        assert isinstance(error["message"], str) and error["message"], error
        assert isinstance(error["type"], str) and error["type"], error
        assert error["param"] is None or isinstance(error["param"], str), error
        assert error["code"] is None or isinstance(error["code"], str), error
        return error


def request(
    port: int,
    method: str,
    target: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout: float = 120.0,
) -> Reply:
    """One request on a connection of its own. `body`: bytes as they are, anything else as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        send_request(connection, method, target, body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())


def send_request(connection: http.client.HTTPConnection, method: str, target: str,
                 body: Any, headers: dict[str, str] | None) -> None:
    # Private unless the test says otherwise: it looks at its own generation, not at the answer to
    # another test's equal request. None leaves a header out.
    fields = {"x-mlx-cache": "bypass", **(headers or {})}
    fields = {name: value for name, value in fields.items() if value is not None}
    if body is not None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if not any(name.lower() == "content-type" for name in fields):
            fields["content-type"] = "application/json"
    connection.request(method, target, body=body, headers=fields)


class Cut(Exception):
    """The server closed or reset a chunked answer before its last chunk."""


class Stream:
    """A streamed answer that is read event by event. Closing it early is what a client that
    leaves does."""

    def __init__(self, port: int, target: str, body: dict[str, Any],
                 headers: dict[str, str] | None = None, timeout: float = 120.0):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        send_request(self._connection, "POST", target, {**body, "stream": True}, headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = self._answer.headers
        self.done = False

    def data(self) -> Iterator[str]:
        """The `data:` of each event, comments left out, "[DONE]" included. Ends where the server
        ends the answer; Cut where it does not."""
        assert self.status == 200, (self.status, self.read_body())
        received = b""
        while block := self._read_chunk():
            received += block
            while b"\n\n" in received:
                event, _, received = received.partition(b"\n\n")
                lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n")
                         if line.startswith(b"data:")]
                if lines:
                    data = b"\n".join(lines).decode()
                    self.done = self.done or data == "[DONE]"
                    yield data
        assert received == b"", "the last event lacks its blank line"

    def _read_chunk(self) -> bytes:
        """The next chunk of the transfer encoding, empty for the last. http.client would take a
        broken connection for the end. An answer that was complete before it began comes as one."""
        if not self._answer.chunked:
            return self._answer.read()
        try:
            size_line = self._answer.fp.readline()
            if not size_line.endswith(b"\r\n"):
                raise Cut(size_line)
            size = int(size_line.split(b";")[0], 16)
            block = self._answer.fp.read(size + 2)
            if len(block) != size + 2:
                raise Cut(block)
            return block[:-2]
        except ConnectionError as error:
            raise Cut(str(error)) from error

    def chunks(self) -> Iterator[dict[str, Any]]:
        for event in self.data():
            if event != "[DONE]":
                yield json.loads(event)

    def read_body(self) -> bytes:
        return self._answer.read()

    def close(self) -> None:
        # The response holds a reference to the socket, so both must go for the peer to see the end.
        self._answer.close()
        self._connection.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def text_of(chunk: dict[str, Any]) -> str:
    """The text that a chunk of either surface adds."""
    return "".join(
        (choice["text"] if "text" in choice else choice["delta"].get("content")) or ""
        for choice in chunk.get("choices", [])
    )


def exchange_bytes(port: int, raw: bytes, timeout: float = 120.0) -> bytes:
    """Sends `raw` as it is and reads until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(raw)
        return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    received = bytearray()
    while block := connection.recv(65536):
        received += block
    return bytes(received)


def split_answer(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body with chunking removed, of one answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    return status, headers, body


def _unchunk(body: bytes) -> bytes:
    plain = bytearray()
    while True:
        size_line, _, body = body.partition(b"\r\n")
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return bytes(plain)
        assert body[size : size + 2] == b"\r\n", "a chunk that does not end where it says"
        plain += body[:size]
        body = body[size + 2 :]
