#!/usr/bin/env python3
"""What the gateway costs in front of a worker that costs nothing (mlxs-mock-worker).

    python3 bench/load/gateway.py [--seconds 3] [--rounds 3] [PART]...

Parts: request, hit, frame, latency, frontier, memory, identical, slow, leave, store; all of them by default.
Processor time of the gateway's process is the measure, since driver, mock and gateway share the cores. Writes
bench/results/gateway.md, or gateway-PART.md for single parts.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from common import (Gateway, alternate, binary, check_clean, dig, free_port, load, median,
                    mock_worker, number, say, table, write_page)

CPU = "processes/gateway/cpu_us_per_request"
FRAME = "processes/gateway/cpu_us_per_frame"
KIB = 1024
SO_TIMESTAMPNS = 35  # Linux; Python has no name for it


class Bench:
    def __init__(self, seconds: float, rounds: int, folder: str):
        self.seconds, self.rounds = seconds, rounds
        self.socket = f"unix:{folder}/mock"

    def run(self, gateway: Gateway, **options) -> dict:
        options = {"users": 64, "seconds": self.seconds, "warmup": 0.5, "check": "echo",
                   "watch": f"gateway={gateway.pid}", **options}
        result = load(gateway.address, **options)
        check_clean(result, f"users {options['users']}")
        return result

    def request(self) -> str:
        """Processor time of one small request, with sharing and without, no prompt twice."""
        with mock_worker(self.socket), Gateway(self.socket, True) as on, \
                Gateway(self.socket, False) as off:
            results = alternate(self.rounds, {"on": lambda: self.run(on),
                                              "off": lambda: self.run(off)})
        pairs = [dig(a, CPU) - dig(b, CPU) for a, b in zip(results["on"], results["off"])]
        rows = [[f"sharing {name}", median(runs, CPU), median(runs, "requests_per_s"),
                 1e6 / median(runs, CPU)] for name, runs in results.items()]
        return "\n\n".join([
            "## A proxied request", "64 users, streamed chat requests of 90 words, answers of 8 "
            "tokens in one write, no prompt twice.",
            table(["", "gateway µs per request", "requests/s seen", "requests/s a core"], rows),
            f"Sharing being on costs {number(statistics.median(pairs))} µs a request (median of "
            f"{len(pairs)} pairs: {', '.join(number(pair) for pair in pairs)}). Targets: 100 µs a "
            "request, 20 µs for sharing."])

    def hit(self) -> str:
        """Answers from the prompt cache: a hundred prompts, asked over and over."""
        options = {"duplicates": 0.9999, "temperature": 0}
        rows = []
        with mock_worker(self.socket), Gateway(self.socket, True) as on:
            for name, flags in (("streamed", []), ("whole", ["--whole"])):
                runs = []
                for _ in range(self.rounds):
                    result = load(on.address, *flags, users=64, seconds=self.seconds, warmup=0.5,
                                  check="echo", watch=f"gateway={on.pid}", **options)
                    check_clean(result, "hits")
                    runs.append(result)
                served = runs[-1]["x_mlx_cache"]
                share = 1 - served.get("miss", 0) / max(1, sum(served.values()))
                rows.append([name, median(runs, CPU), median(runs, "requests_per_s"),
                             1e6 / median(runs, CPU), median(runs, "first_token/p99_ms"),
                             f"{100 * share:.2f} %"])
        return "\n\n".join([
            "## An answer from memory", "64 users, temperature 0, nearly every prompt a repeat.",
            table(["", "gateway µs per request", "requests/s seen", "requests/s a core",
                   "p99 first token ms", "shared"], rows),
            "Target: 33 µs, 30 000 a core."])

    def frame(self) -> str:
        """Long paced answers: the request's own cost vanishes among 256 frames."""
        rows = []
        with mock_worker(self.socket, tokens=256, interval_us=10_000), \
                Gateway(self.socket, False) as gateway:
            for users in (1, 64):
                result = self.run(gateway, users=users, seconds=max(4.0, self.seconds), warmup=1)
                rows.append([users, dig(result, FRAME), dig(result, "frames_per_s"),
                             dig(result, "between_tokens/p50_ms"),
                             dig(result, "between_tokens/p99_ms")])
        return "\n\n".join([
            "## A streamed frame", "One token a frame, one frame every 10 ms and stream.",
            table(["streams", "gateway µs per frame", "frames/s", "p50 gap ms", "p99 gap ms"],
                  rows), "Target: 20 µs."])

    def latency(self) -> str:
        """Through the gateway against straight to the mock."""
        rows = []
        tcp = f"127.0.0.1:{free_port()}"
        with mock_worker(self.socket), mock_worker(tcp), \
                Gateway(self.socket, False) as gateway:
            for name, shape in (("one client", {"users": 1}),
                                ("2 000 requests/s", {"rate": 2000})):
                options = {"seconds": self.seconds, "warmup": 0.5, "check": "echo", **shape}
                results = alternate(self.rounds, {
                    "gateway": lambda: load(gateway.address, **options),
                    "direct": lambda: load(tcp, **options)})
                for path in ("whole/p50_ms", "whole/p99_ms"):
                    ours, theirs = (1e3 * median(results[way], path)
                                    for way in ("gateway", "direct"))
                    rows.append([name, path[6:9], ours, theirs, ours - theirs])
        return "\n\n".join([
            "## Latency added", "Streamed answers of 8 tokens in one write; whole answer at the "
            "client. The second load is an open one: arrivals at random, as many clients as it takes.",
            table(["load", "", "through the gateway µs", "direct µs", "added µs"], rows),
            "Targets: p50 150 µs and p99 300 µs at one client, p99 1 ms under load."])

    def frontier(self) -> str:
        """Requests a second at random arrivals, and what the slowest in a hundred waits."""
        rows, best = [], {}
        with mock_worker(self.socket), Gateway(self.socket, False) as gateway:
            for rate in (1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000):
                result = self.run(gateway, rate=rate, users=1)
                wait = dig(result, "whole/p99_ms")
                rows.append([rate, dig(result, "requests_per_s"), dig(result, "whole/p50_ms"), wait])
                best.update({bound: rate for bound in (1, 5, 10, 50, 100) if wait <= bound})
                if wait > 100:
                    break
        reached = ", ".join(f"{best.get(bound, 'fewer than 1000')} at {bound} ms"
                            for bound in (1, 5, 10, 50, 100))
        return "\n\n".join([
            "## Throughput frontier", "Open loop, answers of 8 tokens in one write, no repeats; "
            "driver and mock take their share of the cores.",
            table(["asked requests/s", "served requests/s", "p50 ms", "p99 ms"], rows),
            f"Requests a second with a p99 within: {reached}."])

    def memory(self) -> str:
        streams = 1000
        with mock_worker(self.socket, tokens=100_000, interval_us=100_000), \
                Gateway(self.socket, True) as gateway:
            time.sleep(1)
            idle, begun = resident(gateway.pid), processor_seconds(gateway.pid)
            time.sleep(4)
            busy = (processor_seconds(gateway.pid) - begun) / 4
            holder = subprocess.Popen(
                [binary("mlxs-load"), "--server", gateway.address, "--users", str(streams),
                 "--seconds", "60"], stdout=subprocess.DEVNULL)
            try:
                time.sleep(4)
                full = resident(gateway.pid)
            finally:
                holder.kill()
                holder.wait()
            time.sleep(1)
            after = resident(gateway.pid)
        return "\n\n".join([
            "## Memory", f"{streams} live streams, a frame every 100 ms on each, all different.",
            table(["idle MiB", "idle processor", f"with {streams} streams MiB", "KiB a stream",
                   "a second after MiB"],
                  [[idle / KIB, f"{100 * busy:.1f} %", full / KIB, (full - idle) / streams,
                    after / KIB]]),
            "Targets: 64 MiB idle, 40 KiB a stream."])

    def identical(self) -> str:
        """R-COAL-1: a thousand equal requests at once."""
        first_ms, users, rows = 250, 1000, []
        for _ in range(max(5, self.rounds)):
            with mock_worker(self.socket, tokens=16, first_us=first_ms * 1000,
                             interval_us=20_000) as worker, \
                    Gateway(self.socket, True) as gateway, apart(gateway.pid, worker.pid):
                delays = []
                for count in (1, users):
                    before = mock_count(self.socket, "generations")
                    body = request_body(count)
                    arrivals, answers = together(gateway.address, body, count)
                    written = mock_count(self.socket, "first_token_ns")
                    delays.append((arrivals[math.ceil(0.99 * count) - 1] - written) / 1e6)
                right = sum(answer == answers[0] and answer[:17] in body for answer in answers)
                rows.append([mock_count(self.socket, "generations") - before, right, *delays,
                             delays[1] - delays[0]])
            rows[-1].append(1e3 * bare_writes(users))
        return "\n\n".join([
            f"## {users} identical streams at once",
            f"The worker holds its first token for {first_ms} ms, by when all have joined. Times "
            "are from the moment it writes that token to the moment the kernel puts it into a "
            "client's socket, the 99th percentile of all clients; how fast the driver reads is not "
            "in them. The gateway has one core, driver and worker the other. Last column: "
            f"{users} writes to {users} loopback connections, and nothing else, on the gateway's "
            "core, with a reader on the other.",
            table(["generations", "right answers", "alone ms", "all ms", "added ms",
                   "bare writes ms"], rows),
            f"Added, median of {len(rows)}: {number(statistics.median(row[4] for row in rows))} ms. "
            f"Target: one generation, {0.012 * users + 2:.0f} ms added."])

    def leave(self) -> str:
        """R-COAL-2: from the last of three subscribers leaving to the worker noticing."""
        times, rounds = [], 30
        with mock_worker(self.socket, tokens=100_000, interval_us=1000), \
                Gateway(self.socket, True) as gateway:
            for number_of in range(rounds):
                body = request_body(number_of)
                clients = [SlowReader(gateway.address, body) for _ in range(3)]
                for client in clients:
                    client.socket.setblocking(True)
                    client.socket.recv(4096)
                before = mock_count(self.socket, "cancelled")
                for client in clients:
                    client.socket.close()
                left = time.monotonic_ns()
                while mock_count(self.socket, "cancelled") == before:
                    time.sleep(0.005)
                times.append((mock_count(self.socket, "cancelled_ns") - left) / 1e6)
        return "\n\n".join([
            "## The last one leaves", f"Three streams of one generation, closed one after the other, "
            f"{rounds} times; the worker writes every millisecond and so notices within one.",
            table(["median ms", "longest ms"], [[statistics.median(times), max(times)]]),
            "Target: 50 ms, of which 20 are `timeouts.linger_ms`."])

    def store(self) -> str:
        """R-CACHE-3: the store of answers by itself."""
        lines = subprocess.run([binary("answer_store_bench"), "--operations", "100000"],
                               capture_output=True, text=True, check=True).stdout.splitlines()
        rows = [[run["operation"], run["threads"], float(run["per_s"]), run["p50_ns"] / 1e3,
                 run["p99_ns"] / 1e3, run["p999_ns"] / 1e3] for run in map(json.loads, lines)]
        return "\n\n".join([
            "## The store of answers", "10 000 answers of 4 KiB to requests of 4 KiB, compared in "
            "full on every hit; calls from threads that do nothing else.",
            table(["call", "threads", "calls/s", "p50 µs", "p99 µs", "p99.9 µs"], rows),
            "Target: p99 of a hit 150 µs."])

    def slow(self) -> str:
        """R-COAL-3: readers of one byte a second on the flight of 20 healthy ones."""
        rows, base = [], 0.0
        for readers, frames in ((0, 12000), (1, 12000), (1000, 1500)):
            with mock_worker(self.socket, tokens=frames, interval_us=5000), \
                    Gateway(self.socket, True) as gateway:
                body = request_body(9)
                slow = [SlowReader(gateway.address, body) for _ in range(readers)]
                stop = threading.Event()
                feeder = threading.Thread(target=read_slowly, args=(slow, stop))
                feeder.start()
                result = self.run(gateway, users=20, requests=20, seconds=0, warmup=0,
                                  duplicates=1, seed=9)
                after = resident(gateway.pid)
                stop.set()
                feeder.join()
                for one in slow:
                    one.socket.close()
            base = base or after
            rows.append([readers, frames // 200, result["succeeded"], dig(result, "between_tokens/p99_ms"),
                         (after - base) / readers if readers > 1 else "–"])
        return "\n\n".join([
            "## Slow readers on a shared flight",
            "20 healthy readers, a frame each 5 ms; the others read 1 byte a second.",
            table(["slow readers", "seconds", "right answers", "p99 gap of the healthy ms",
                   "gateway KiB a slow reader"], rows),
            "Targets: the gap moves less than 1 ms, 16 KiB a reader."])


class SlowReader:
    def __init__(self, address: str, body: str):
        host, port = address.split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((host, int(port)))
        self.socket.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n"
                             "content-type: application/json\r\n"
                             f"content-length: {len(body)}\r\n\r\n{body}").encode())
        self.socket.setblocking(False)


def request_body(seed: int) -> str:
    """A chat request that the mock's answer can be told by."""
    return subprocess.run([binary("mlxs-load"), "--show", "--seed", str(seed), "--check", "echo"],
                          capture_output=True, text=True, check=True).stdout.strip()


def read_slowly(readers: list[SlowReader], stop: threading.Event) -> None:
    while not stop.wait(1):
        for one in readers:
            try:
                one.socket.recv(1)
            except OSError:
                pass


def together(address: str, body: str, count: int) -> tuple[list[int], list[str]]:
    """`count` streams of the same request: when each one's first token reached its socket, sorted,
    in nanoseconds of the steady clock; and the text of each."""
    host, port = address.split(":")
    request = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n"
               "content-type: application/json\r\nconnection: close\r\n"
               f"content-length: {len(body)}\r\n\r\n{body}").encode()
    to_steady = time.monotonic_ns() - time.time_ns()
    ready, streams = select.epoll(), {}
    for _ in range(count):
        one = socket.create_connection((host, int(port)))
        one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        ready.register(one.fileno(), select.EPOLLIN)
        streams[one.fileno()] = one
    for one in streams.values():
        one.sendall(request)
    arrivals, received = [], {descriptor: b"" for descriptor in streams}
    open_streams = dict(streams)
    while open_streams:
        for descriptor, _ in ready.poll():
            data, ancillary, _, _ = open_streams[descriptor].recvmsg(1 << 16, 64)
            if b'"content":"#' in data:
                seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
                arrivals.append(seconds * 1_000_000_000 + nanoseconds + to_steady)
            received[descriptor] += data
            if not data:
                ready.unregister(descriptor)
                open_streams.pop(descriptor).close()
    texts = ["".join(re.findall(r'"content":"([^"]+)"', one.decode()))
             if b"data: [DONE]" in one else "" for one in received.values()]
    return sorted(arrivals), texts


@contextlib.contextmanager
def apart(first: int, *others: int) -> Iterator[None]:
    """Process `first` on a core of its own, the others and what this script starts on the rest."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield
        return
    for process, on in [(first, cores[:1]), *((one, cores[1:]) for one in others)]:
        for thread in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(thread), on)
    os.sched_setaffinity(0, cores[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def bare_writes(count: int, size: int = 900) -> float:
    """Seconds that one thread takes for a write to each of `count` loopback connections, while a
    process on the other cores reads them."""
    cores = sorted(os.sched_getaffinity(0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    pairs = []
    for _ in range(count):
        reader = socket.create_connection(listener.getsockname())
        pairs.append((listener.accept()[0], reader))
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, cores[1:] or cores)
        readers = {reader.fileno(): reader for _, reader in pairs}
        ready = select.epoll()
        for descriptor in readers:
            ready.register(descriptor, select.EPOLLIN)
        while readers:
            for descriptor, _ in ready.poll():
                readers.pop(descriptor).recv(2 * size)
        os._exit(0)
    os.sched_setaffinity(0, cores[:1])
    time.sleep(0.2)  # the reader is waiting by then
    payload = b"x" * size
    begun = time.perf_counter()
    for writer, _ in pairs:
        writer.send(payload)
    spent = time.perf_counter() - begun
    os.waitpid(child, 0)
    os.sched_setaffinity(0, cores)
    for pair in (listener, *(one for both in pairs for one in both)):
        pair.close()
    return spent


def resident(pid: int) -> float:
    """KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(float(line.split()[1]) for line in status if line.startswith("VmRSS"))


def processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mock_count(address: str, name: str) -> int:
    """What the mock worker counts: generations begun, when it last wrote a first token."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(address.removeprefix("unix:"))
        asked.sendall(b"GET /counts HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while part := asked.recv(4096):
            answer += part
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])[name]


PARTS = ("request", "hit", "frame", "latency", "frontier", "memory", "identical", "slow", "leave",
         "store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}")
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.seconds, arguments.rounds, folder)
        for part in arguments.parts or PARTS:
            say(part)
            sections.append(getattr(bench, part)())
    write_page("-".join(["gateway", *arguments.parts]), "The gateway's own cost", sections)


if __name__ == "__main__":
    main()
