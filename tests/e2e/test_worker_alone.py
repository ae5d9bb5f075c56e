"""A worker without gateway and supervisor speaks the API by itself."""

import http.client
import json
import signal
import subprocess

import openai
import pytest

from support import wire
from support.processes import binary, repository, wait_until
from support.server import MODEL, MODEL_FILE, Worker, completion_body, series


def test_the_official_client_talks_to_a_worker(worker_alone: Worker):
    with openai.OpenAI(base_url=worker_alone.base_url, api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model=MODEL, temperature=0, max_tokens=12,
            messages=[{"role": "user", "content": "What is the capital of France?"}])

        assert "Paris" in answer.choices[0].message.content
        assert [one.id for one in client.models.list()] == [MODEL]
        assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize("text", [
    "Hello, world!", "def f(x):\n\treturn x  # tabs\n", "naïve café \N{ROCKET}\N{GRINNING FACE}",
    "\u4f60\u597d\uff0c\u4e16\u754c", "a\u0301 \u200d zero\u00a0width", "   spaces   ",
    "12345 67.89"])
def test_tokens_turn_back_into_their_text(worker_alone: Worker, text: str):
    tokens = worker_alone.post("/tokenize", {"prompt": text, "add_special": False}).json

    assert tokens["count"] == len(tokens["tokens"]) > 0
    assert tokens["max_model_len"] >= 2048
    back = worker_alone.post("/detokenize", {"tokens": tokens["tokens"]}).json
    assert back["content"] == text and back["prompt"] == text
    as_content = worker_alone.post("/tokenize", {"content": text, "add_special": False}).json
    assert as_content["tokens"] == tokens["tokens"]


def test_messages_are_tokenized_through_the_chat_template(worker_alone: Worker):
    messages = [{"role": "user", "content": "What is the capital of France?"}]

    tokens = worker_alone.post("/tokenize", {"messages": messages}).json

    rendered = worker_alone.post("/detokenize", {"tokens": tokens["tokens"]}).json["content"]
    assert "What is the capital of France?" in rendered
    usage = worker_alone.chat("What is the capital of France?", max_tokens=1).json["usage"]
    assert usage["prompt_tokens"] == tokens["count"]


def test_wrong_tokenize_requests_are_a_400(worker_alone: Worker):
    for target, body in (("/tokenize", {}), ("/tokenize", {"prompt": 7}), ("/tokenize", b"{"),
                         ("/detokenize", {}), ("/detokenize", {"tokens": ["a"]}),
                         ("/detokenize", {"tokens": [10**7]}), ("/detokenize", {"tokens": [-1]})):
        reply = worker_alone.post(target, body)

        assert reply.status == 400, (target, body)
        assert reply.error["type"] == "invalid_request_error"


def test_token_ids_come_with_every_chunk_when_asked_for(worker_alone: Worker):
    """What resuming on another worker needs: the ids stand for the text."""
    with worker_alone.stream_completion("1, 2, 3, 4,", max_tokens=6,
                                        mlxs={"token_ids": True, "seed": 5}) as stream:
        chunks = list(stream.chunks())

    ids = [token for chunk in chunks for token in chunk.get("mlxs", {}).get("token_ids", [])]
    text = "".join(wire.text_of(chunk) for chunk in chunks)
    assert len(ids) == 6
    assert worker_alone.post("/detokenize", {"tokens": ids}).json["content"] == text


def test_a_seed_drawn_by_the_gateway_counts_only_without_one_of_the_client(worker_alone: Worker):
    def sample(**fields) -> str:
        return worker_alone.complete("Once upon a time", temperature=1.0, max_tokens=8,
                                     **fields).json["choices"][0]["text"]

    by_client = sample(seed=3)

    assert sample(mlxs={"seed": 3}) == by_client
    assert sample(seed=3, mlxs={"seed": 4}) == by_client


def test_the_state_stream_starts_at_once_and_shows_work(worker_alone: Worker):
    connection = http.client.HTTPConnection("127.0.0.1", worker_alone.port, timeout=120)
    connection.request("GET", "/internal/state")
    answer = connection.getresponse()
    assert answer.headers.get_content_type() == "text/event-stream"

    def next_state() -> dict:
        while line := answer.readline():
            if line.startswith(b"data:"):
                return json.loads(line[5:])
        raise AssertionError("the state stream ended")

    state = next_state()
    assert state["ready"] is True and state["model"] == MODEL
    assert state["pid"] == worker_alone.pid
    while state["running"]:  # Of a test before this one.
        state = next_state()
    assert state["blocks_free"] == state["blocks_total"] > 0
    assert state["sequences_max"] > 0 and state["context_tokens_max"] >= 2048
    assert state["weights_bytes"] > 50_000_000 and state["kv_bytes"] > 0
    assert all(len(state["digests"][what]) >= 32 for what in ("weights", "tokenizer", "template"))

    # To the end of the context, which is far off.
    with worker_alone.stream_completion("1, 2, 3, 4,", max_tokens=8000,
                                        ignore_eos=True) as stream:
        next(stream.chunks())
        while state["running"] == 0:
            state = next_state()
        steps = state["steps"]
        assert state["blocks_free"] < state["blocks_total"]
        while state["steps"] <= steps:
            state = next_state()
        stream.close()
        while state["running"]:
            state = next_state()
    assert state["blocks_free"] == state["blocks_total"], "it gives its blocks back"
    connection.close()


def test_metrics_count_what_was_generated(worker_alone: Worker):
    def total(name: str) -> float:
        text = worker_alone.get("/metrics").body.decode()
        return sum(value for found, _, value in series(text) if found == name)

    before = total("vllm:generation_tokens_total"), total("vllm:prompt_tokens_total")

    worker_alone.complete("1, 2, 3, 4,", max_tokens=5)

    wait_until("both counters move", lambda: total("vllm:generation_tokens_total") >= before[0] + 5
               and total("vllm:prompt_tokens_total") > before[1])


def test_errors_have_the_same_shape_as_behind_the_gateway(worker_alone: Worker):
    for reply, status in (
            (worker_alone.get("/nowhere"), 404),
            (worker_alone.get("/v1/completions"), 405),
            (worker_alone.post("/v1/completions", b"{"), 400),
            (worker_alone.post("/v1/completions", completion_body(MODEL, 7)), 400),
            (worker_alone.post("/v1/completions", completion_body("other", "Hi")), 404)):
        assert reply.status == status
        assert reply.error["message"]
    worker_alone.check_alive()


def test_health_is_ok(worker_alone: Worker):
    assert worker_alone.get("/health").json == {"status": "ok"}


def test_a_worker_accepts_while_it_loads_and_says_so(tmp_path):
    with Worker(tmp_path) as worker:
        seen = wait_until("it answers", lambda: first_answer(worker))
        if seen.status == 503:  # Unless the load was quicker than our first look.
            assert seen.json == {"status": "loading"}
        worker.wait_ready()
        worker.check_alive()


def first_answer(worker: Worker):
    assert worker.process.poll() is None, worker.log()
    try:
        return worker.get("/health")
    except OSError:
        return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_asked_to_stop_exits_0(tmp_path, number: signal.Signals):
    with Worker(tmp_path) as worker:
        worker.wait_ready()

        worker.send(number)

        assert worker.wait() == 0


def test_a_worker_that_cannot_listen_says_where(worker_alone: Worker):
    address = f"127.0.0.1:{worker_alone.port}"

    ended = subprocess.run([binary("mlx-serving-worker"), "--source", MODEL_FILE, "--listen",
                            address], capture_output=True, text=True, timeout=120, cwd=repository())

    assert ended.returncode not in (0, 78)
    assert address in ended.stderr and "in use" in ended.stderr
