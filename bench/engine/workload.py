"""What the scenarios of engine_bench ask for, for the baselines: the same token ids and figures."""

import argparse
import math

PREFILLS = 3
TOKENS_SHOWN = 16


def prompt_of(row: int, tokens: int) -> list[int]:
    return [100 + (row * 131 + i * 17 + i * i % 97) % 1900 for i in range(tokens)]


def quantile(values: list[float], share: float) -> float:
    if not values:
        return 0.0
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def add_times(result: dict, name: str, times: list[float]) -> None:
    for suffix, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        result[f"{name}_{suffix}"] = quantile(times, share)


def prefill_figures(tokens: int, times: list[float]) -> dict:
    """`times`: milliseconds to the first token of prompts of so many tokens."""
    return {"first_token_ms": quantile(times, 0.5),
            "tokens_per_s": tokens / quantile(times, 0.5) * 1e3}


def add_sizes(parser: argparse.ArgumentParser) -> None:
    for name, usual in (("rows", 8), ("prompt-tokens", 128), ("answer-tokens", 64),
                        ("long-tokens", 4096), ("short-prompts", 100)):
        parser.add_argument(f"--{name}", type=int, default=usual)
