#!/usr/bin/env python3
"""The whole server over HTTP with the real model, beside mlx_lm.server.

    python3 bench/load/server.py duplicates|users [--engines ours,mlx-lm] [--distinct 64] …

duplicates: 32 users, a share of 0, 0.5 and 0.9 of the requests repeating an earlier prompt; as many
requests as make the distinct prompts equally many at each share (the baseline, which makes every
answer, gets as many requests at any share). users: 1, 32 and 100 users, no repeats. Prompts of 90
words (the chat template adds to them), answers of 64 tokens, greedy, streamed; from the first
request to the last answer. Writes bench/results/server-WHAT.md.
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


def measure(name: str, quantised: bool, users: int, duplicates: float, requests: int) -> list:
    with engine(name, quantised) as (address, model):
        # One request first, so that no server is measured while it warms up.
        load(address, model=model, requests=1, answer_tokens=4, seed=999)
        result = load(address, model=model, users=users, duplicates=duplicates, requests=requests,
                      check="equal", answer_tokens=64, prompt_words=90, seed=5)
    complete = result["succeeded"] + result["wrong_answers"]
    failed = sum(result["failures"].values())
    say(f"  {name}, {users} users, d={duplicates}: {result['tokens_per_s']:.0f} tok/s, "
        f"{complete} complete, failures {result['failures']}")
    served = result["x_mlx_cache"]
    shared = sum(served.get(how, 0) for how in ("hit", "dedup", "coalesced", "stale"))
    return [name, users, f"{duplicates:g}", result["distinct_prompts"], dig(result, "tokens_per_s"),
            dig(result, "first_token/p50_ms"), dig(result, "first_token/p95_ms"),
            dig(result, "between_tokens/p50_ms"), dig(result, "between_tokens/p95_ms"),
            dig(result, "between_tokens/p99_ms"), dig(result, "whole/p50_ms"),
            dig(result, "whole/p95_ms"), complete, failed, result["refused"],
            result["wrong_answers"],
            f"{100 * (1 - shared / max(1, complete)):.0f} %"]


HEAD = ("", "users", "d", "distinct", "tok/s", "first token p50 ms", "p95", "between tokens p50 ms", "p95",
        "p99", "whole p50 ms", "p95", "complete", "failed", "refused", "equal prompts that differ",
        "generated")


def ratios(rows: list[list], arguments: argparse.Namespace) -> str:
    """Each run of ours against the bases it is judged by."""
    speed = {(row[0], row[1], row[2]): row[4] for row in rows}
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
    parser.add_argument("--distinct", type=int, default=64, help="prompts of duplicates")
    parser.add_argument("--engines", default="ours,mlx-lm")
    parser.add_argument("--shares", default="0,0.5,0.9")
    parser.add_argument("--users", default="1,32,100")
    parser.add_argument("--quantised", action="store_true", help="mlx-lm on the 4-bit weights")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    runs = []
    if arguments.what == "duplicates":
        if "ours" in engines:
            runs.append(("ours, sharing off", 32, 0.0, arguments.distinct))
        for share in (float(one) for one in arguments.shares.split(",")):
            for name in engines:
                equal_work = round(arguments.distinct / (1 - share))
                runs.append((name, 32, share, equal_work if name == "ours" else arguments.distinct))
    else:
        for users in (int(one) for one in arguments.users.split(",")):
            runs += [(name, users, 0.0, max(6, min(2 * users, 100))) for name in engines]
    rows = [measure(name, arguments.quantised, *sizes) for name, *sizes in runs]
    write_page(f"server-{arguments.what}", "The whole server beside mlx_lm.server", [
        f"{GGUF.stem}; mlx_lm.server 0.32.2 on MLX 0.32.4 with OpenBLAS, the same weights as "
        f"{'4-bit' if arguments.quantised else 'float32'}, its own defaults. Server and driver share "
        f"{os.cpu_count()} cores. *Generated*: the share of answers that a model made for the very "
        "request.",
        table(HEAD, rows), ratios(rows, arguments)])


if __name__ == "__main__":
    main()
