"""Starts and ends the shipped programs, and watches that nothing stays behind."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
from typing import Any, Iterator

from . import wire
from .processes import (Process, binary, can_bind, descendants, free_port, repository,
                        still_running, wait_until)

MODEL = "smollm2-135m-instruct"
MODEL_FILE = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_CONFIG = "config/default.yaml"
LOAD_SECONDS = 120.0  # A generous bound for loading the small model beside a busy compiler.


class Program:
    """A child process whose output goes to a file, so that it can be read at any time."""

    running: list["Program"] = []  # For the report of a failed test.

    def __init__(self, name: str, arguments: list[str], folder: pathlib.Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.arguments = arguments
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, cwd=repository(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        Program.running.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def check_running(self) -> None:
        ended = self.process.poll()
        assert ended is None, f"{self.name} ended with {ended}:\n{self.log()}"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 90.0) -> int:
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Ends it and checks that its whole family is gone."""
        family = descendants(self.pid)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end on SIGTERM") from None
            finally:
                self._forget()
        self._forget()
        wait_until(f"no process of {self.name} is left", lambda: not still_running(family))

    def _forget(self) -> None:
        if self in Program.running:
            Program.running.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Answers:
    """Requests to one port that serves the OpenAI API."""

    port: int
    model: str

    def get(self, target: str, **options: Any) -> wire.Reply:
        return wire.request(self.port, "GET", target, **options)

    def post(self, target: str, body: Any, **options: Any) -> wire.Reply:
        return wire.request(self.port, "POST", target, body, **options)

    def chat(self, text: str, **fields: Any) -> wire.Reply:
        return self.post("/v1/chat/completions", chat_body(self.model, text, **fields))

    def chat_shared(self, text: str, **fields: Any) -> wire.Reply:
        """As a client does it that leaves sharing to the server."""
        return self.post("/v1/chat/completions", chat_body(self.model, text, **fields),
                         headers={"x-mlx-cache": None})

    def complete(self, prompt: str, **fields: Any) -> wire.Reply:
        return self.post("/v1/completions", completion_body(self.model, prompt, **fields))

    def stream_chat(self, text: str, *, headers: dict[str, str] | None = None,
                    **fields: Any) -> wire.Stream:
        body = chat_body(self.model, text, **fields)
        return wire.Stream(self.port, "/v1/chat/completions", body, headers)

    def stream_completion(self, prompt: str, *, headers: dict[str, str] | None = None,
                          **fields: Any) -> wire.Stream:
        body = completion_body(self.model, prompt, **fields)
        return wire.Stream(self.port, "/v1/completions", body, headers)

    def check_alive(self, headers: dict[str, str] | None = None) -> None:
        """Everything else still runs: a short request is answered."""
        reply = self.post("/v1/completions", completion_body(self.model, "1, 2, 3,", max_tokens=2),
                          headers=headers)
        assert reply.status == 200, (reply.status, reply.body)
        assert reply.json["usage"]["completion_tokens"] == 2

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def chat_body(model: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}],
            "temperature": 0, "max_tokens": 16, **fields}


def completion_body(model: str, prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 16, **fields}


# With `endless`: more tokens than any test lasts, at 5 ms each.
FAR_TOO_MANY = 100_000


def beside_an_endless_worker(folder: pathlib.Path) -> str:
    """A copy of `mlx-serving` that starts workers whose model is made up: its answers end at their
    `max_tokens` only, however long that takes, and their tokens are letters."""
    folder.mkdir(parents=True)
    worker = folder / "made-up-mlx-serving-worker"
    shutil.copy2(binary("mlx-serving"), folder / "mlx-serving")
    shutil.copy2(binary("mlxs-fake-worker"), worker)
    started = folder / "mlx-serving-worker"
    started.write_text(f'#!/bin/sh\nexec "{worker}" --fake-endless --fake-step-ms 5 '
                       '--fake-blocks 100000 "$@"\n')
    started.chmod(0o755)
    return str(folder / "mlx-serving")


class Serve(Program, _Answers):
    """`mlx-serving serve` with the shipped configuration, or the one given as a dictionary. With
    `endless` its worker is the one that streams until it is told to stop, for tests of what happens
    meanwhile: no real model is slow enough everywhere."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any] | None = None,
                 sets: tuple[str, ...] = (), model: str = MODEL,
                 listen: str | None = None, admin_host: str = "127.0.0.1",
                 endless: bool = False):
        self.port = free_port()
        self.admin_port = free_port()
        self.model = model
        self.access_log_path = folder / "access.log"
        self.config_path = repository() / DEFAULT_CONFIG
        folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            self.config_path = folder / "config.yaml"
            self.write_config(config)
        program = binary("mlx-serving")
        if endless:
            program = beside_an_endless_worker(folder / "bin")
            sets = ("models[0].context_tokens=200000", *sets)
        arguments = [program, "serve", "--config", str(self.config_path),
                     "--listen", listen or f"127.0.0.1:{self.port}"]
        for one in (f"admin.listen={admin_host}:{self.admin_port}",
                    f"log.access={self.access_log_path}", f"state_dir={folder / 'state'}",
                    *sets):
            arguments += ["--set", one]
        super().__init__("mlx-serving", arguments, folder)

    def write_config(self, config: dict[str, Any]) -> None:
        self.config_path.write_text(json.dumps(config, indent=2))  # JSON is YAML.

    def wait_ready(self, seconds: float = LOAD_SECONDS) -> "Serve":
        wait_until("the server is ready", self.is_ready, seconds)
        return self

    def is_ready(self) -> bool:
        self.check_running()
        try:
            return self.get("/ready", timeout=5).status == 200
        except OSError:
            return False

    def admin(self, what: str) -> Any:
        reply = wire.request(self.admin_port, "GET", f"/admin/v1/{what}")
        assert reply.status == 200, (reply.status, reply.body)
        return reply.json

    def flush(self, **scope: Any) -> wire.Reply:
        return wire.request(self.admin_port, "POST", "/admin/v1/cache/flush", scope)

    def set_feature(self, name: str, enabled: bool, **model: str) -> None:
        reply = wire.request(self.admin_port, "PUT", f"/admin/v1/features/{name}",
                             {"enabled": enabled, **model})
        assert reply.status == 200, (reply.status, reply.body)

    def workers(self) -> list[dict[str, Any]]:
        return self.admin("workers")["workers"]

    def running_sequences(self) -> int:
        return sum(worker["running"] for worker in self.workers())

    def metrics(self) -> str:
        reply = wire.request(self.admin_port, "GET", "/metrics")
        assert reply.status == 200
        return reply.body.decode()

    def metric(self, name: str, **labels: str) -> float:
        """Sum over the series of `name` that carry `labels`."""
        return sum(value for found, have, value in series(self.metrics())
                   if found == name and labels.items() <= have.items())

    def gateway(self) -> Process:
        """The data plane's process."""
        return wait_until("there is a gateway", lambda: next(
            (p for p in descendants(self.pid) if " gateway" in p.command), None))

    def worker_processes(self) -> list[Process]:
        return [p for p in descendants(self.pid) if "mlx-serving-worker" in p.command]

    @contextlib.contextmanager
    def workers_paused(self) -> Iterator[None]:
        """What comes meanwhile stays under way: the workers are stopped, not ended."""
        paused = self.worker_processes()
        for one in paused:
            os.kill(one.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in paused:
                with contextlib.suppress(ProcessLookupError):  # The test may have killed it.
                    os.kill(one.pid, signal.SIGCONT)

    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.access_log_path.read_text().splitlines()]

    def stop(self) -> None:
        super().stop()
        wait_until("its ports are free", lambda: can_bind(self.port) and can_bind(self.admin_port))


class Worker(Program, _Answers):
    """`mlx-serving-worker` standing alone on a TCP port."""

    def __init__(self, folder: pathlib.Path, source: str = MODEL_FILE, *extra: str):
        self.port = free_port()
        self.model = MODEL
        super().__init__("mlx-serving-worker", [
            binary("mlx-serving-worker"), "--source", source, "--id", MODEL,
            "--listen", f"127.0.0.1:{self.port}", *extra], folder)

    def wait_ready(self, seconds: float = LOAD_SECONDS) -> "Worker":
        wait_until("the worker is ready", self.is_ready, seconds)
        return self

    def is_ready(self) -> bool:
        self.check_running()
        try:
            return self.get("/health", timeout=5).status == 200
        except OSError:
            return False


def series(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample. Label values in our tests hold no quotes."""
    for line in exposition.splitlines():
        if not line or line.startswith("#"):
            continue
        key, value = line.rsplit(" ", 1)
        name, _, rest = key.partition("{")
        labels = {}
        for pair in filter(None, rest.rstrip("}").split('",')):
            label, _, text = pair.partition('="')
            labels[label.strip()] = text.rstrip('"')
        yield name, labels, float(value)
