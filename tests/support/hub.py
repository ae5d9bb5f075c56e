"""A hub with the routes that a pull needs, and a storage on a port of its own that it redirects to."""

import hashlib
import http.server
import json
import re
import threading
from typing import Any, Callable

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
LARGE = 100_000  # From this size on a file is kept in storage and named by its SHA-256.


def etag(content: bytes) -> str:
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server:
    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]):
        owner = self
        self.requests: list[tuple[str, str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                owner.requests.append((self.command, self.path, {
                    name.lower(): value for name, value in self.headers.items()}))
                try:
                    answer(self)
                except ConnectionError:
                    self.close_connection = True

            do_HEAD = do_GET

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Hub:
    """One repository, `ORG/NAME`, at one commit. `refuse` is (status, x-error-code) for everything;
    `hold_after` bytes of a large file storage waits for `go_on`; `cut_after` bytes it hangs up,
    once."""

    def __init__(self, repository: str, files: dict[str, bytes]):
        self.repository = repository
        self.files = files
        self.refuse: tuple[int, str] | None = None
        self.hold_after: int | None = None
        self.cut_after: int | None = None
        self.held = threading.Event()
        self.go_on = threading.Event()
        self._storage = _Server(self._at_storage)
        self._hub = _Server(self._at_hub)
        self.url = self._hub.url

    @property
    def requests(self) -> list[tuple[str, str, dict[str, str]]]:
        return self._hub.requests

    @property
    def storage_requests(self) -> list[tuple[str, str, dict[str, str]]]:
        return self._storage.requests

    def _at_hub(self, asked: http.server.BaseHTTPRequestHandler) -> None:
        if self.refuse:
            return _send(asked, self.refuse[0], b"", {"X-Error-Code": self.refuse[1]})
        path = asked.path.split("?")[0]
        if path.startswith(f"/api/models/{self.repository}/revision/"):
            return _send(asked, 200, self._listing())
        if tree := re.fullmatch(f"/api/models/{self.repository}/tree/{COMMIT}", path):
            return _send(asked, 200, self._tree())
        found = re.fullmatch(f"/{self.repository}/resolve/({COMMIT}|main)/(.+)", path)
        if not found or found[2] not in self.files:
            return _send(asked, 404, b"", {"X-Error-Code": "RepoNotFound"})
        content = self.files[found[2]]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(content)}"'}
        if len(content) < LARGE:
            return _send(asked, 200, content, headers)
        return _send(asked, 302, b"", headers | {
            "Location": f"{self._storage.url}/{found[2]}?Signature=secret",
            "X-Linked-Etag": f'"{etag(content)}"', "X-Linked-Size": str(len(content))})

    def _listing(self) -> bytes:
        siblings = []
        for path, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if len(content) < LARGE:
                entry["blobId"] = etag(content)
            else:
                entry["lfs"] = {"sha256": etag(content), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return json.dumps({"_id": "0", "id": self.repository, "modelId": self.repository,
                           "sha": COMMIT, "private": False, "siblings": siblings}).encode()

    def _tree(self) -> bytes:
        """As the hub's own tools list a repository."""
        entries = []
        for path, content in self.files.items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content),
                                     "oid": "0" * 40}
            if len(content) < LARGE:
                entry["oid"] = etag(content)
            else:
                entry["lfs"] = {"oid": etag(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return json.dumps(entries).encode()

    def _at_storage(self, asked: http.server.BaseHTTPRequestHandler) -> None:
        content = self.files[asked.path[1:].split("?")[0]]
        first = int(asked.headers.get("range", "bytes=0-")[len("bytes="):-1])
        headers = {"ETag": '"of-the-store"',
                   "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        _send_head(asked, 206 if first else 200, len(content) - first, headers)
        if asked.command == "HEAD":
            return
        if self.cut_after is not None:
            asked.wfile.write(content[first:first + self.cut_after])
            self.cut_after = None
            asked.close_connection = True
            return
        if self.hold_after is not None:
            asked.wfile.write(content[first:first + self.hold_after])
            asked.wfile.flush()
            first += self.hold_after
            self.held.set()
            self.go_on.wait(300)
        asked.wfile.write(content[first:])

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._hub.close()
        self._storage.close()


def _send_head(asked: http.server.BaseHTTPRequestHandler, status: int, length: int,
               headers: dict[str, str]) -> None:
    asked.send_response(status)
    for name, value in {"Content-Length": str(length), **headers}.items():
        asked.send_header(name, value)
    asked.end_headers()


def _send(asked: http.server.BaseHTTPRequestHandler, status: int, body: bytes,
          headers: dict[str, str] | None = None) -> None:
    _send_head(asked, status, len(body), headers or {})
    if asked.command != "HEAD":
        asked.wfile.write(body)
