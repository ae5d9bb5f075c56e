"""Processes, ports and waiting, with the standard library only (Linux and macOS)."""

import os
import pathlib
import random
import socket
import subprocess
import sys
import time
from typing import Callable, NamedTuple, TypeVar

T = TypeVar("T")


class Process(NamedTuple):
    """A process; `born` tells it from a later one with the same number."""

    pid: int
    parent: int
    born: str
    state: str
    command: str


def _processes_linux() -> list[Process]:
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue  # It ended while we looked.
        fields = stat[stat.rindex(")") + 2 :].split()
        found.append(Process(int(folder.name), int(fields[1]), fields[19], fields[0],
                             command.decode(errors="replace").strip()))
    return found


def _processes_ps() -> list[Process]:
    table = subprocess.run(
        ["ps", "-axwwo", "pid=,ppid=,lstart=,state=,command="],
        capture_output=True, text=True, check=True,
    ).stdout
    found = []
    for line in table.splitlines():
        fields = line.split(None, 8)
        born = " ".join(fields[2:7])
        found.append(Process(int(fields[0]), int(fields[1]), born, fields[7][0],
                             (fields + [""])[8]))
    return found


def processes() -> list[Process]:
    return _processes_linux() if sys.platform == "linux" else _processes_ps()


def descendants(pid: int) -> list[Process]:
    """Children of `pid`, their children and so on; zombies left out."""
    table = [p for p in processes() if p.state != "Z"]
    found: list[Process] = []
    parents = {pid}
    while parents:
        children = [p for p in table if p.parent in parents]
        found += children
        parents = {p.pid for p in children}
    return found


def still_running(candidates: list[Process]) -> list[Process]:
    """Those of `candidates` that run now. A zombie has ended; only its parent did not look yet."""
    now = {(p.pid, p.born) for p in processes() if p.state != "Z"}
    return [p for p in candidates if (p.pid, p.born) in now]


def wait_until(what: str, check: Callable[[], T], seconds: float = 90.0) -> T:
    """Calls `check` until it returns something true, which is returned; fails after `seconds`, which
    is there against hanging for ever and says nothing about how long anything may take."""
    end = time.monotonic() + seconds
    pause = 0.005
    while True:
        if result := check():
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def free_port() -> int:
    """One that the kernel gives to nobody of itself, neither to a client's end of a connection nor
    to who binds to port 0, so that it is still free when the program is started that is told it."""
    while True:
        port = random.randrange(15_000, 32_000)
        if can_bind(port):
            return port


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def repository() -> pathlib.Path:
    return pathlib.Path(__file__).resolve().parents[2]


def binary(name: str) -> str:
    folder = os.environ.get("MLXS_BIN_DIR", "build/release/bin")
    path = repository() / folder / name
    assert path.exists(), f"{path} is missing; build it with `make build`, or set MLXS_BIN_DIR"
    return str(path)
