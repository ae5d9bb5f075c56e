"""A server that speaks OpenAI's API the way other people's servers do, quirks included."""

import http.server
import json
import threading
from typing import Any


class ForeignServer:
    """Answers `WORDS` to everything. The prompt picks the quirk:

    "plain"       CRLF line ends, no usage, fields nobody asked for, role in every chunk
    "error"       400 with the error as a bare string
    "overloaded"  429
    "cut"         ends in mid-stream without [DONE]
    "whole"       ignores `stream` and answers one JSON object
    """

    WORDS = ["Bon", "jour", " le", " monde"]
    MODEL = "their-name"

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/v1/models":
                    self._json(200, {"object": "list", "data": [{"id": owner.MODEL}]})
                else:
                    self._json(404, {"detail": "Not Found"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.requests.append({"path": self.path, "headers": dict(self.headers.items()),
                                       "body": body})
                getattr(self, "_" + body["messages"][-1]["content"].split()[0])()

            def _plain(self) -> None:
                self._start_events()
                for word in owner.WORDS:
                    self._event({"id": "x", "object": "chat.completion.chunk", "system_fingerprint":
                                 None, "timings": {"n": 1}, "choices": [
                                     {"index": 0, "delta": {"role": "assistant", "content": word},
                                      "finish_reason": None, "stop_reason": None}]})
                self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self._chunk(b"data: [DONE]\r\n\r\n")
                self._chunk(b"")

            def _cut(self) -> None:
                self._start_events()
                self._event({"choices": [{"index": 0, "delta": {"content": "Bon"},
                                          "finish_reason": None}]})
                self.close_connection = True

            def _error(self) -> None:
                self._json(400, {"error": "we do not like this prompt"})

            def _overloaded(self) -> None:
                self._json(429, {"error": {"message": "too busy"}}, {"retry-after": "1"})

            def _whole(self) -> None:
                self._json(200, {"id": "y", "object": "chat.completion", "model": owner.MODEL,
                                 "choices": [{"index": 0, "finish_reason": "stop", "message": {
                                     "role": "assistant", "content": "".join(owner.WORDS)}}],
                                 "usage": {"prompt_tokens": 5, "completion_tokens": 4,
                                           "total_tokens": 9}})

            def _start_events(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

            def _event(self, chunk: dict[str, Any]) -> None:
                self._chunk(b": ping\r\n\r\ndata: " + json.dumps(chunk).encode() + b"\r\n\r\n")

            def _chunk(self, block: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                self.wfile.flush()

            def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "ForeignServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
