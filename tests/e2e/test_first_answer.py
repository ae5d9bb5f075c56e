"""A first answer, the way a new user tries it: curl against the shipped configuration."""

import json
import pathlib
import socket
import subprocess

from support.processes import wait_until
from support.server import MODEL, Serve, Worker, chat_body
from support.wire import text_of

QUESTION = "What is the capital of France?"


def curl(*arguments: str) -> str:
    return subprocess.run(["curl", "--silent", "--show-error", "--fail-with-body", "--no-buffer",
                           "--max-time", "120", *arguments],
                          capture_output=True, text=True, check=True).stdout


def post_with_curl(server: Serve, body: dict) -> str:
    return curl(f"{server.base_url}/chat/completions", "-H", "content-type: application/json",
                "-d", json.dumps(body))


def test_curl_gets_a_sensible_answer_with_usage(server: Serve):
    answer = json.loads(post_with_curl(server, chat_body(MODEL, QUESTION)))

    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["object"] == "chat.completion"
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_curl_gets_the_same_answer_streamed(server: Serve):
    whole = json.loads(post_with_curl(server, chat_body(MODEL, QUESTION)))

    lines = post_with_curl(server, chat_body(MODEL, QUESTION, stream=True)).splitlines()

    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    text = "".join(text_of(json.loads(one)) for one in data[:-1])
    assert text == whole["choices"][0]["message"]["content"]


def test_curl_sees_the_models_and_the_state_of_the_server(server: Serve):
    models = json.loads(curl(f"{server.base_url}/models"))

    assert models["object"] == "list"
    assert [one["id"] for one in models["data"]] == [MODEL]
    assert isinstance(models["data"][0]["created"], int)
    assert models["data"][0]["object"] == "model" and models["data"][0]["owned_by"]
    curl(f"http://127.0.0.1:{server.port}/health")
    curl(f"http://127.0.0.1:{server.admin_port}/ready")


def accepts_at(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_unix_socket_serves_too(start_server, tmp_path):
    path = tmp_path / "api.sock"
    server = start_server(listen=f"unix:{path}")
    wait_until("it listens", lambda: accepts_at(path))

    models = json.loads(curl("--unix-socket", str(path), "http://localhost/v1/models"))

    assert [one["id"] for one in models["data"]] == [MODEL]
    server.stop()
    assert not path.exists()


def test_the_completions_endpoint_continues_a_text(server: Serve):
    answer = server.complete("The capital of France is", max_tokens=4).json

    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"].startswith(" Paris")
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["choices"][0]["finish_reason"] == "length"


def test_stop_strings_end_an_answer_and_stay_out_of_it(server: Serve):
    answer = server.complete("1, 2, 3, 4,", max_tokens=32, stop=[" 7"]).json

    assert answer["choices"][0]["text"] == " 5, 6,"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_the_gateway_gives_the_answer_that_the_worker_alone_gives(server: Serve,
                                                                 worker_alone: Worker):
    through = server.chat(QUESTION).json["choices"][0]["message"]["content"]

    assert worker_alone.chat(QUESTION).json["choices"][0]["message"]["content"] == through
