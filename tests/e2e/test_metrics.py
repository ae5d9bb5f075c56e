"""Metrics that a real Prometheus understands, and that move with what they count."""

import pathlib
import subprocess

from support.processes import wait_until
from support.prometheus import Prometheus, tool
from support.server import FAR_TOO_MANY, MODEL, Serve, chat_body, series


def check_with_promtool(exposition: str) -> None:
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=exposition, text=True,
                             capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_gateways_exposition_passes_promtool(server: Serve):
    server.check_alive()

    check_with_promtool(server.metrics())


def test_the_workers_exposition_parses(worker_alone):
    """promtool's linter dislikes the colons of the vLLM names, so here only the grammar counts."""
    worker_alone.check_alive()
    reply = worker_alone.get("/metrics")

    names = {name for name, _, _ in series(reply.body.decode())}

    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert {"vllm:num_requests_running", "vllm:num_requests_waiting"} <= names


def test_requests_are_counted_by_their_outcome(server: Serve):
    good = server.metric("mlx_requests_total", status="200")
    bad = server.metric("mlx_requests_total", status="400")

    server.check_alive()
    server.post("/v1/chat/completions", b"{")

    wait_until("both are counted", lambda: server.metric("mlx_requests_total", status="200") > good
               and server.metric("mlx_requests_total", status="400") > bad)


def test_a_refusal_is_counted_by_its_reason(server: Serve):
    before = server.metric("mlx_rejected_total")
    server.get("/v1/models", headers={"host": "evil.example"})
    server.post("/v1/chat/completions", chat_body("no-such-model", "Hi"))

    wait_until("it is counted", lambda: server.metric("mlx_rejected_total") > before)


def test_running_streams_are_seen(endless: Serve):
    with endless.stream_completion("1, 2, 3,", max_tokens=FAR_TOO_MANY) as stream:
        next(stream.chunks())
        wait_until("the stream is seen", lambda: endless.metric("mlx_streams_active") == 1)
    wait_until("its end is seen", lambda: endless.metric("mlx_streams_active") == 0)


def test_times_are_seen(server: Serve):
    durations = server.metric("gen_ai_server_request_duration_seconds_count")
    firsts = server.metric("gen_ai_server_time_to_first_token_seconds_count")

    server.check_alive()

    wait_until("its times are seen", lambda:
               server.metric("gen_ai_server_request_duration_seconds_count") > durations
               and server.metric("gen_ai_server_time_to_first_token_seconds_count") > firsts)


def test_labels_stay_bounded_whatever_clients_send(server: Serve):
    for i in range(20):
        server.post("/v1/chat/completions", chat_body(f"no-such-model-{i}", "Hi"))
        server.get(f"/v1/nowhere/{i}")

    assert "no-such-model" not in server.metrics() and "nowhere" not in server.metrics()


def test_a_real_prometheus_scrapes_and_answers(server: Serve, tmp_path: pathlib.Path):
    server.check_alive()
    with Prometheus(tmp_path, server.admin_port) as prometheus:
        requests = f'mlx_requests_total{{model="{MODEL}"}}'
        first = wait_until("Prometheus knows of requests", lambda: prometheus.sum(requests))

        server.check_alive()

        wait_until("and of the next one", lambda: prometheus.sum(requests) > first)
