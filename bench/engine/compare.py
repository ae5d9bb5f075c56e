#!/usr/bin/env python3
"""Our engine beside mlx-lm's BatchGenerator and llama.cpp on the same weights and token ids, in turn.

    python3 bench/engine/compare.py [--model X --baseline Y] [--rounds 3] [SCENARIO]...

A scenario is a name with sizes: decode:ROWS, prefill:TOKENS, joins:ROWS:LONG, behind:LONG:SHORTS;
the defaults are decode:1 decode:8 decode:32 decode:64 prefill:512. Without --model the default GGUF
runs against the same weights as mlx-lm reads them (float32, which is its fastest on a CPU), against
llama.cpp on that very file, and against llama.cpp on the form of that size which it is fastest with
(Q4_0, made by itself from the same file). Any folder made by bench/tools/make_checkpoint.py serves
ours and mlx-lm. Writes bench/results/NAME.md.
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
from common import (GGUF, LLAMA_VENV, MODELS, OPENBLAS, ROOT, VENV, alternate, binary, number, say,
                    table, write_page)

HERE = pathlib.Path(__file__).parent
PEERS = ("mlx-lm", "llama.cpp", "llama.cpp Q4_0")
DEFAULTS = ("decode:1", "decode:8", "decode:32", "decode:64", "prefill:512")
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


def flags(scenario: str, shared: dict[str, int]) -> list[str]:
    """The scenario's own sizes go before shared ones."""
    name, *sizes = scenario.split(":")
    if name not in FLAGS or len(sizes) > len(FLAGS[name]):
        sys.exit(f"no scenario {scenario}")
    out = [name]
    for flag, size in (shared | dict(zip(FLAGS[name], sizes))).items():
        out += [f"--{flag}", str(size)]
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


def fastest_form(model: pathlib.Path) -> pathlib.Path:
    """The same weights as llama.cpp multiplies them fastest; made once."""
    out = MODELS / f"{model.name.split('.')[0]}.Q4_0.gguf"
    if not out.exists():
        say(f"making {out.name}")
        done = subprocess.run([str(LLAMA_VENV / "bin/python"),
                               str(ROOT / "bench/tools/gguf_requantise.py"), "--embedding", "Q8_0",
                               str(model), "Q4_0", str(out)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{out.name} could not be made: {done.stderr[-800:]}")
    return out


def agreement(results: dict[str, list[dict]]) -> str:
    """Share of rows whose first tokens are the same."""
    ours = results["ours"][0].get("tokens", [])
    notes = ""
    for name in PEERS:
        rows = list(zip(ours, results.get(name, [{}])[0].get("tokens", [])))
        if rows:
            same = sum(a == b for a, b in rows)
            notes += (f" The first {len(rows[0][0])} tokens agree with {name}'s in {same} of "
                      f"{len(rows)} rows.")
    return notes.strip()


def ceilings(runs: list[dict]) -> str:
    """What ours promises, and what came of it in its worst run."""
    notes = ""
    for number_of, first in enumerate(runs[0].get("ceilings", [])):
        worst = max((one["ceilings"][number_of] for one in runs if "ceilings" in one),
                    key=lambda one: one["ms"] / one["ceiling_ms"])
        met = "met" if worst["ms"] <= worst["ceiling_ms"] else "NOT MET"
        notes += (f" Ceiling, {first['what']}: {number(worst['ms'])} of "
                  f"{number(worst['ceiling_ms'])} ms, {met}.")
    return notes


def section(scenario: str, results: dict[str, list[dict]]) -> str:
    peers = [name for name in PEERS if name in results]
    head = ["", "ours"]
    for name in peers:
        head += [name, "ours is better by"]
    rows = []
    for path, label, more_is_better in FIGURES[scenario.split(":")[0]]:
        values = {name: [one[path] for one in runs if path in one]
                  for name, runs in results.items()}
        if not values["ours"]:
            return f"## {scenario}\n\nOurs failed: {results['ours'][0].get('error')}"
        mine = statistics.median(values["ours"])
        row = [label, mine]
        for name in peers:
            other = statistics.median(values[name]) if values[name] else 0.0
            ratio = f"{number(mine / other if more_is_better else other / mine)}×" \
                if min(mine, other) > 0 else "–"
            row += [other if values[name] else "–", ratio]
        rows.append(row)
    notes = (agreement(results) + ceilings(results["ours"])).strip()
    for name in peers:
        if errors := {one["error"] for one in results[name] if "error" in one}:
            notes += f" {name}: {'; '.join(errors)}."
    return f"## {scenario}\n\n{table(head, rows)}\n\n{notes}".rstrip()


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
    parser.add_argument("--without", action="append", choices=PEERS, default=[],
                        help="a peer to leave out")
    parser.add_argument("--name", default="engine", help="of the page in results/")
    arguments = parser.parse_args()
    model = arguments.model or GGUF
    baseline = arguments.baseline or arguments.model or baseline_folder(not arguments.quantised)
    shared = {name.replace("_", "-"): value for name in ("prompt_tokens", "answer_tokens")
              if (value := getattr(arguments, name)) is not None}
    with_llama = model.suffix == ".gguf" and (LLAMA_VENV / "bin/python").exists()
    peers = [one for one in PEERS if one not in arguments.without]
    if model.suffix == ".gguf" and not with_llama:
        say("llama.cpp is left out: scripts/setup.sh bench-llama builds it")
    sections = []
    for scenario in arguments.scenarios:
        say(scenario)
        name, *rest = flags(scenario, shared)

        def llama(file: pathlib.Path) -> dict:
            return run([str(LLAMA_VENV / "bin/python"), str(HERE / "llama_run.py"), name,
                        str(file), *rest], arguments.limit)

        runs = {
            "ours": lambda: run([binary("engine_bench"), name, str(model), *rest],
                                arguments.limit),
            "mlx-lm": lambda: run([str(VENV / "bin/python"), str(HERE / "mlx_lm_run.py"), name,
                                   str(baseline), *rest], arguments.limit, blas()),
            "llama.cpp": lambda: llama(model),
            "llama.cpp Q4_0": lambda: llama(fastest_form(model))}
        for one in PEERS:
            missing = one != "mlx-lm" and (not with_llama or name not in ("decode", "prefill"))
            if one not in peers or missing:
                del runs[one]
        sections.append(section(scenario, alternate(arguments.rounds, runs)))
    used = [f"mlx-lm 0.32.2 on MLX 0.32.4, its BatchGenerator on {baseline.name}"]
    if with_llama:
        used.append("llama.cpp as llama-cpp-python 0.3.36 builds it with GGML_NATIVE, a thread a "
                    "core, flash attention, one step for all rows, on the same file and on the "
                    "Q4_0 that it makes of it, which it reorders at run time")
    write_page(arguments.name, f"The engine beside its peers: {model.name}", [
        f"{'; '.join(used)}. The same token ids for all, medians of {arguments.rounds} runs in "
        "turn, each in a process of its own. Greedy, no text made.", *sections])


if __name__ == "__main__":
    main()
