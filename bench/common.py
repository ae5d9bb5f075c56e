"""What the measuring scripts share: programs, processes, medians, and pages in results/."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARIES = ROOT / os.environ.get("MLXS_BIN_DIR", "build/release/bin")
VENV = ROOT / os.environ.get("MLXS_BENCH_VENV", "build/bench-venv")
LLAMA_VENV = ROOT / os.environ.get("MLXS_LLAMA_VENV", "build/llama-venv")
MODELS = ROOT / "build/models"
GGUF = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
GIB = 1 << 30
OPENBLAS = ("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0",
            "/usr/lib/aarch64-linux-gnu/openblas-pthread/libopenblas.so.0")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def binary(name: str) -> str:
    path = BINARIES / name
    if not path.exists():
        sys.exit(f"{path.relative_to(ROOT)} is missing; build it with `make bench-build`")
    return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return 0, b""


def wait_for(url: str, program: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while get(url)[0] != 200:
        if program.poll() is not None or time.monotonic() > end:
            sys.exit(f"nothing good at {url}; the program ended with {program.poll()}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(arguments: Sequence[str], **options: Any) -> Iterator[subprocess.Popen]:
    """A program for the length of a block; its output goes to build/bench.log."""
    with (ROOT / "build/bench.log").open("ab") as log:
        program = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, **options)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(40)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


@contextlib.contextmanager
def mock_worker(listen: str, **knobs: int) -> Iterator[subprocess.Popen]:
    arguments = [binary("mlxs-mock-worker"), "--listen", listen]
    for name, value in knobs.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    with running(arguments) as program:
        end = time.monotonic() + 10
        while not can_connect(listen):
            if time.monotonic() > end or program.poll() is not None:
                sys.exit(f"the mock worker does not listen on {listen}")
            time.sleep(0.02)
        yield program


def can_connect(address: str) -> bool:
    try:
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address[5:])
        else:
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


class Gateway:
    """A gateway with this script as its supervisor and one native worker behind model "m"."""

    def __init__(self, worker: str, sharing: bool, more: dict | None = None):
        policy = "all" if sharing else "off"
        layers = ("coalescing", "dedup", "prompt_cache")
        config = {"log": {"access": "off", "level": "warn"},
                  "limits": {"in_flight": 100_000, "connections": 100_000},
                  "models": [{"id": "m", "source": "m.gguf",
                              "sharing": {layer: {"policy": policy} for layer in layers}}],
                  **(more or {})}
        self.api, self.admin = self._listener(), self._listener()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # The gateway takes its descriptors as 3, 4 and 5; ours must not be among those.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (theirs, self.api, self.admin)]
        command = "exec {} gateway 3<&{} 4<&{} 5<&{}".format(
            shlex.quote(binary("mlx-serving")), *high)
        with (ROOT / "build/bench.log").open("ab") as log:
            self.process = subprocess.Popen(["bash", "-c", command], pass_fds=high, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)
        for descriptor in high:
            os.close(descriptor)
        theirs.close()
        self._send({"type": "config", "yaml": json.dumps(config)})
        self._send({"type": "workers", "workers": [
            {"id": "m/0", "model": "m", "address": worker, "pid": 1, "state": "running",
             "restarts": 0, "error": "", "retry_in_ms": 0}]})
        wait_for(f"http://{self.admin_address}/ready", self.process, 20)

    @staticmethod
    def _listener() -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        return listener

    def _send(self, message: dict) -> None:
        self.control.sendall(json.dumps(message).encode() + b"\n")

    @property
    def address(self) -> str:
        return "127.0.0.1:{}".format(self.api.getsockname()[1])

    @property
    def admin_address(self) -> str:
        return "127.0.0.1:{}".format(self.admin.getsockname()[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()  # Without its supervisor a gateway ends.
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.api.close()
        self.admin.close()


def load(server: str, *flags: str, **options: Any) -> dict:
    """One run of mlxs-load; `options` are its flags, with _ for -."""
    arguments = [binary("mlxs-load"), "--server", server, *flags]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            arguments += [f"--{name.replace('_', '-')}", str(one)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


def check_clean(result: dict, what: str) -> None:
    """Says so when a run had failures: its numbers then mean little."""
    if result["failures"] or result["wrong_answers"] or result["refused"]:
        say(f"{what}: failures {result['failures']}, wrong answers {result['wrong_answers']}, "
            f"refused {result['refused']}")


def alternate(rounds: int, runs: dict[str, Callable[[], dict]]) -> dict[str, list[dict]]:
    """Each run `rounds` times in turn, every other round backwards, so that a drift of the machine
    falls on all alike."""
    results: dict[str, list[dict]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in names:
            results[name].append(runs[name]())
            say(f"  {name}: round {number + 1} of {rounds}")
    return results


def dig(result: dict, path: str) -> float:
    for key in path.split("/"):
        result = result[key]
    return float(result)  # type: ignore[arg-type]


def median(results: list[dict], path: str) -> float:
    return statistics.median(dig(one, path) for one in results)


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, whole from a hundred on."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [number(cell) if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def conditions() -> str:
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    return (f"{day}, commit {commit or 'unknown'}, {os.cpu_count()} × {processor()}, "
            f"{platform.system()}; load average before the run {LOAD_BEFORE:.1f}.")


LOAD_BEFORE = os.getloadavg()[0]


def write_page(name: str, title: str, sections: Sequence[str]) -> None:
    """bench/results/NAME.md, with the command that made it and the machine."""
    command = "python3 " + shlex.join(
        [os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
    text = "\n\n".join([f"# {title}", f"`{command}`", conditions(), *sections]) + "\n"
    path = ROOT / "bench/results" / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)
