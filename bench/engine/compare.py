#!/usr/bin/env python3
"""Our engine and mlx-lm's BatchGenerator on the same weights and token ids, in turn.

    python3 bench/engine/compare.py [--model X --baseline Y] [--rounds 3] [SCENARIO]...

A scenario is a name with sizes: decode:ROWS, prefill:TOKENS, joins:ROWS:LONG, behind:LONG:SHORTS;
the defaults are decode:1 decode:8 decode:32 prefill:512. Without --model the default GGUF runs
against the same weights as mlx-lm reads them (float32, which is its fastest on a CPU). Any folder
made by bench/tools/make_checkpoint.py serves as both. Writes bench/results/NAME.md.
"""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from common import (GGUF, MODELS, OPENBLAS, ROOT, VENV, alternate, binary, number, say, table,
                    write_page)

HERE = pathlib.Path(__file__).parent
DEFAULTS = ("decode:1", "decode:8", "decode:32", "prefill:512")
FLAGS = {"decode": ("rows",), "prefill": ("prompt-tokens",), "joins": ("rows", "long-tokens"),
         "behind": ("long-tokens", "short-prompts")}
# Figures of each scenario; whether more is better.
FIGURES = {
    "decode": (("tokens_per_s", "tok/s", True), ("step_ms_p50", "step p50 ms", False),
               ("step_ms_p95", "step p95 ms", False)),
    "prefill": (("tokens_per_s", "tok/s", True), ("first_token_ms", "first token ms", False)),
    "joins": (("gap_ms_before_p50", "gap of the rows before, p50 ms", False),
              ("gap_ms_p50", "gap meanwhile, p50 ms", False),
              ("gap_ms_p95", "p95 ms", False), ("gap_ms_max", "longest ms", False),
              ("rows_tokens_per_s", "tok/s of the rows meanwhile", True),
              ("first_token_ms", "first token of the long prompt ms", False)),
    "behind": (("first_token_ms_p50", "first token of the short, p50 ms", False),
               ("first_token_ms_p95", "p95 ms", False), ("first_token_ms_max", "last ms", False),
               ("long_first_token_ms", "first token of the long ms", False),
               ("all_done_ms", "all done ms", False)),
}


def run(command: list[str], limit: float, environment: dict[str, str] | None = None) -> dict:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment,
                              timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {limit:g} s"}
    if done.returncode:
        say(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr[-800:]}")
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr else "no word"}
    return json.loads(done.stdout.splitlines()[-1])


def flags(scenario: str, shared: list[str]) -> list[str]:
    name, *sizes = scenario.split(":")
    if name not in FLAGS or len(sizes) > len(FLAGS[name]):
        sys.exit(f"no scenario {scenario}")
    out = [name, *shared]
    for flag, size in zip(FLAGS[name], sizes):
        out += [f"--{flag}", size]
    return out


def blas() -> dict[str, str]:
    """MLX's Linux wheel carries the reference BLAS; its fastest is with OpenBLAS before it."""
    environment = dict(os.environ)
    for path in OPENBLAS:
        if pathlib.Path(path).exists():
            environment["LD_PRELOAD"] = path
    return environment


def baseline_folder(dense: bool) -> pathlib.Path:
    """The default model as mlx-lm reads it; made once."""
    folder = MODELS / ("SmolLM2-135M-float32" if dense else "SmolLM2-135M-Q4_1")
    if not (folder / "tokenizer_config.json").exists():
        say(f"making {folder.relative_to(ROOT)}")
        subprocess.run([str(VENV / "bin/python"), str(ROOT / "bench/tools/gguf_to_mlx.py"),
                        *(["--dense"] if dense else []), str(GGUF), str(folder)], check=True)
    return folder


def agreement(ours: list[dict], theirs: list[dict]) -> str:
    """Share of rows whose first tokens are the same in both."""
    rows = list(zip(ours[0].get("tokens", []), theirs[0].get("tokens", [])))
    if not rows:
        return ""
    same = sum(a == b for a, b in rows)
    return f" The first {len(rows[0][0])} tokens agree in {same} of {len(rows)} rows."


def section(scenario: str, results: dict[str, list[dict]]) -> str:
    ours, theirs = results["ours"], results["mlx-lm"]
    rows = []
    for path, label, more_is_better in FIGURES[scenario.split(":")[0]]:
        values = {name: [one[path] for one in runs if path in one]
                  for name, runs in results.items()}
        if not values["ours"]:
            return f"## {scenario}\n\nOurs failed: {ours[0].get('error')}"
        mine = statistics.median(values["ours"])
        if not values["mlx-lm"]:
            rows.append([label, mine, "–", "–"])
            continue
        other = statistics.median(values["mlx-lm"])
        ratio = mine / other if more_is_better else other / mine
        rows.append([label, mine, other, f"{number(ratio)}×" if min(mine, other) > 0 else "–"])
    notes = agreement(ours, theirs)
    if errors := {one["error"] for one in theirs if "error" in one}:
        notes += f" mlx-lm: {'; '.join(errors)}."
    return f"## {scenario}\n\n{table(['', 'ours', 'mlx-lm', 'ours is better by'], rows)}\n\n{notes}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", default=DEFAULTS)
    parser.add_argument("--model", type=pathlib.Path, help="what ours loads")
    parser.add_argument("--baseline", type=pathlib.Path, help="what mlx-lm loads; as --model")
    parser.add_argument("--quantised", action="store_true",
                        help="the default model's 4-bit weights for mlx-lm, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=150, help="seconds for one run")
    parser.add_argument("--prompt-tokens", type=int, help="of decoding rows")
    parser.add_argument("--answer-tokens", type=int)
    parser.add_argument("--name", default="engine", help="of the page in results/")
    arguments = parser.parse_args()
    model = arguments.model or GGUF
    baseline = arguments.baseline or arguments.model or baseline_folder(not arguments.quantised)
    shared: list[str] = []
    for name in ("prompt_tokens", "answer_tokens"):
        if (value := getattr(arguments, name)) is not None:
            shared += [f"--{name.replace('_', '-')}", str(value)]
    sections = []
    for scenario in arguments.scenarios:
        say(scenario)
        name, *rest = flags(scenario, shared)
        ours = [binary("engine_bench"), name, str(model), *rest]
        theirs = [str(VENV / "bin/python"), str(HERE / "mlx_lm_run.py"), name, str(baseline), *rest]
        sections.append(section(scenario, alternate(arguments.rounds, {
            "ours": lambda: run(ours, arguments.limit),
            "mlx-lm": lambda: run(theirs, arguments.limit, blas())})))
    write_page(arguments.name, f"The engine beside mlx-lm: {model.name}", [
        f"mlx-lm 0.32.2 on MLX 0.32.4, its BatchGenerator on {baseline.name}; the same token ids "
        f"in both, medians of {arguments.rounds} runs in turn, each in a process of its own. Greedy, "
        "no text made.", *sections])


if __name__ == "__main__":
    main()
