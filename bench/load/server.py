#!/usr/bin/env python3
"""The whole server over HTTP with the real model, beside mlx_lm.server.

    python3 bench/load/server.py duplicates|users [--seconds 25] [--engines ours,mlx-lm] …

duplicates: 32 users, a share of 0, 0.5 and 0.9 of the requests repeating an earlier prompt.
users: 1, 32 and 100 users, no repeats. Prompts of 90 words (the chat template adds to them),
answers of 64 tokens, greedy, streamed. Each run counts a window in the middle of a steady load.
Writes bench/results/server-WHAT.md.
"""

import argparse
import contextlib
import os
import pathlib
import sys
from typing import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "engine"))
from common import (GGUF, VENV, binary, dig, free_port, load, number, running, say, table,
                    wait_for, write_page)
from compare import baseline_folder, blas

MODEL = "smollm2-135m-instruct"
LAYERS = ("coalescing", "dedup", "prompt_cache")


@contextlib.contextmanager
def ours(sharing: bool) -> Iterator[tuple[str, str]]:
    api, admin = free_port(), free_port()
    command = [binary("mlx-serving"), "serve", "--config", "config/default.yaml",
               "--listen", f"127.0.0.1:{api}", "--set", f"admin.listen=127.0.0.1:{admin}",
               "--set", "log.access=off"]
    if not sharing:
        for layer in LAYERS:
            command += ["--set", f"models[0].sharing.{layer}.policy=off"]
    with running(command) as program:
        wait_for(f"http://127.0.0.1:{api}/ready", program)
        yield f"127.0.0.1:{api}", MODEL


@contextlib.contextmanager
def mlx_lm(quantised: bool) -> Iterator[tuple[str, str]]:
    port = free_port()
    folder = baseline_folder(not quantised)
    command = [str(VENV / "bin/python"), "-m", "mlx_lm", "server", "--model", str(folder),
               "--port", str(port), "--log-level", "ERROR"]
    with running(command, env=blas()) as program:
        wait_for(f"http://127.0.0.1:{port}/v1/models", program)
        yield f"127.0.0.1:{port}", str(folder)


def engine(name: str, quantised: bool):
    if name == "mlx-lm":
        return mlx_lm(quantised)
    return ours(sharing=name != "ours, sharing off")


def measure(name: str, arguments: argparse.Namespace, users: int, duplicates: float) -> list:
    with engine(name, arguments.quantised) as (address, model):
        # One request first, so that no server is measured while it warms up.
        load(address, model=model, requests=1, answer_tokens=4, seed=999)
        result = load(address, "--cut", model=model, users=users, duplicates=duplicates,
                      warmup=arguments.warmup, seconds=arguments.seconds, check="equal",
                      answer_tokens=64, prompt_words=90, seed=5)
    complete = result["succeeded"] + result["wrong_answers"]
    failed = sum(result["failures"].values())
    say(f"  {name}, {users} users, d={duplicates}: {result['tokens_per_s']:.0f} tok/s, "
        f"{complete} complete, failures {result['failures']}")
    served = result["x_mlx_cache"]
    generated = served.get("miss", complete) + served.get("bypass", 0)
    return [name, users, f"{duplicates:g}", dig(result, "tokens_per_s"),
            dig(result, "first_token/p50_ms"), dig(result, "first_token/p95_ms"),
            dig(result, "between_tokens/p50_ms"), dig(result, "between_tokens/p95_ms"),
            dig(result, "between_tokens/p99_ms"), dig(result, "whole/p50_ms"),
            dig(result, "whole/p95_ms"), complete, failed, result["refused"],
            result["wrong_answers"], result["abandoned"],
            f"{100 * generated / max(1, complete):.0f} %"]


HEAD = ("", "users", "d", "tok/s", "first token p50 ms", "p95", "between tokens p50 ms", "p95",
        "p99", "whole p50 ms", "p95", "complete", "failed", "refused", "equal prompts that differ",
        "under way at the end", "generated")


def ratios(rows: list[list], arguments: argparse.Namespace) -> str:
    """Each run of ours against the bases it is judged by."""
    speed = {(row[0], row[1], row[2]): row[3] for row in rows}
    lines = []
    for (name, users, share), value in speed.items():
        if name != "ours":
            continue
        for base, base_share in (("ours, sharing off", "0"), ("mlx-lm", share)):
            other = speed.get((base, users, base_share))
            if not other:
                continue
            bar = ""
            if base == "ours, sharing off" and share != "0":
                bar = f" (at least {number(0.9 / (1 - float(share)))}× wanted)"
            lines.append(f"- {users} users, d={share}: {number(value / other)}× {base}"
                         f"{' at d=0' if base_share != share else ''}{bar}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("duplicates", "users"))
    parser.add_argument("--seconds", type=float, default=25, help="of the window")
    parser.add_argument("--warmup", type=float, default=8)
    parser.add_argument("--engines", default="ours,mlx-lm")
    parser.add_argument("--shares", default="0,0.5,0.9")
    parser.add_argument("--users", default="1,32,100")
    parser.add_argument("--quantised", action="store_true", help="mlx-lm on the 4-bit weights")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    runs = []
    if arguments.what == "duplicates":
        if "ours" in engines:
            runs.append(("ours, sharing off", 32, 0.0))
        for share in (float(one) for one in arguments.shares.split(",")):
            runs += [(name, 32, share) for name in engines]
    else:
        runs = [(name, int(users), 0.0) for users in arguments.users.split(",")
                for name in engines]
    rows = [measure(name, arguments, users, share) for name, users, share in runs]
    write_page(f"server-{arguments.what}", "The whole server beside mlx_lm.server", [
        f"{GGUF.stem}; mlx_lm.server 0.32.2 on MLX 0.32.4 with OpenBLAS, the same weights as "
        f"{'4-bit' if arguments.quantised else 'float32'}, its own defaults. Server and driver share "
        f"{os.cpu_count()} cores. A window of {arguments.seconds:g} s after {arguments.warmup:g} s; "
        "answers under way at its end count with the tokens that had come. *Generated*: the share of "
        "complete answers that a model made for this request.",
        table(HEAD, rows), ratios(rows, arguments)])


if __name__ == "__main__":
    main()
