"""The official `openai` client for Node against the gateway: what its users see."""

import json
import os
import shutil
import subprocess
from typing import Any

from support.processes import repository
from support.server import MODEL, Serve


def run(server: Serve, scenario: str) -> Any:
    node = shutil.which("node")
    assert node, "node is missing; `scripts/setup.sh test` installs it"
    ended = subprocess.run(
        [node, str(repository() / "tests/clients/node/client.mjs"), scenario, server.base_url,
         MODEL],
        env={**os.environ, "NODE_CLIENT_DIR": str(repository() / "build/node")},
        capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_whole_answer_and_a_streamed_one_are_the_same(server: Serve):
    whole = run(server, "whole")
    streamed = run(server, "stream")

    assert "Paris" in whole["text"] and whole["finish"] in ("stop", "length")
    assert streamed["text"] == whole["text"]
    assert streamed["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    assert whole["usage"]["total_tokens"] == \
        whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    assert whole["requestId"] and whole["requestId"] != streamed["requestId"]


def test_a_refused_field_is_the_clients_own_error_type(server: Serve):
    error = run(server, "error")

    assert error["name"] == "BadRequestError" and error["status"] == 400
    assert error["param"] == "temperature" and error["requestId"]


def test_a_shared_answer_says_so(server: Serve):
    first, second = run(server, "twice")

    assert first["cache"] == "miss" and second["cache"] in ("dedup", "hit")
    assert second["text"] == first["text"] and second["cacheKey"] == first["cacheKey"]
    assert second["age"] is not None and first["age"] is None
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == \
        second["usage"]["prompt_tokens"]
