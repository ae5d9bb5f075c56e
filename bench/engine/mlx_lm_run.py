#!/usr/bin/env python3
"""mlx-lm's BatchGenerator through the scenarios of engine_bench: same token ids, same figures.

    mlx_lm_run.py SCENARIO FOLDER [--rows N] [--prompt-tokens N] [--answer-tokens N] …

Runs with bench/requirements.txt. Its own defaults stand (prompts in steps of 2048 tokens, eight at
once), as mlx_lm.server has them.
"""

import argparse
import json
import pathlib
import time

from mlx_lm.generate import BatchGenerator
from mlx_lm.utils import load_model

from workload import PREFILLS, TOKENS_SHOWN, add_sizes, add_times, prefill_figures, prompt_of

TOKENS_BEFORE = 16
SHORT_TOKENS = 32
SHORT_ANSWER = 16


class Track:
    def __init__(self) -> None:
        self.submitted = time.perf_counter()
        self.times: list[float] = []
        self.tokens: list[int] = []
        self.finished = False


class Collector:
    def __init__(self, folder: str, rows: int):
        model, _ = load_model(pathlib.Path(folder))
        self.generator = BatchGenerator(model, completion_batch_size=max(32, rows))
        self.tracks: dict[int, Track] = {}
        self.steps: list[float] = []

    def submit(self, prompt: list[int], answer_tokens: int) -> int:
        track = Track()
        id, = self.generator.insert([prompt], [answer_tokens])
        self.tracks[id] = track
        return id

    def wait(self, condition) -> None:
        while not condition(self.tracks):
            _, responses = self.generator.next()
            now = time.perf_counter()
            if responses:
                self.steps.append(now)
            for response in responses:
                track = self.tracks[response.uid]
                track.times.append(now)
                track.tokens.append(int(response.token))
                track.finished = track.finished or response.finish_reason is not None


def all_finished(tracks: dict[int, Track]) -> bool:
    return all(track.finished for track in tracks.values())


def gaps(tracks: list[Track], begin: float, end: float) -> list[float]:
    return [1e3 * (b - a) for track in tracks for a, b in zip(track.times, track.times[1:])
            if begin < b <= end]


def decode(options: argparse.Namespace) -> dict:
    collector = Collector(options.model, options.rows)
    for row in range(options.rows):
        collector.submit(prompt_of(row, options.prompt_tokens), options.answer_tokens)
    collector.wait(all_finished)
    tracks = collector.tracks.values()
    begin = max(track.times[0] for track in tracks)
    end = min(track.times[-1] for track in tracks)
    drawn = sum(begin < at <= end for track in tracks for at in track.times)
    inside = [begin] + [at for at in collector.steps if begin < at <= end]
    result = {"tokens_per_s": drawn / (end - begin)}
    add_times(result, "step_ms", [1e3 * (b - a) for a, b in zip(inside, inside[1:])])
    result["tokens"] = [track.tokens[:TOKENS_SHOWN] for track in tracks]
    return result


def prefill(options: argparse.Namespace) -> dict:
    collector = Collector(options.model, 1)
    times = []
    for number in range(PREFILLS + 1):
        id = collector.submit(prompt_of(number, options.prompt_tokens), 1)
        collector.wait(lambda tracks: tracks[id].finished)
        track = collector.tracks[id]
        if number:
            times.append(1e3 * (track.times[0] - track.submitted))
    return prefill_figures(options.prompt_tokens, times)


def joins(options: argparse.Namespace) -> dict:
    collector = Collector(options.model, options.rows + 1)
    for row in range(options.rows):
        collector.submit(prompt_of(row, options.prompt_tokens), 3000)
    have = lambda count: lambda tracks: all(len(t.tokens) >= count for t in tracks.values())
    collector.wait(have(2))
    begin = time.perf_counter()
    collector.wait(have(2 + TOKENS_BEFORE))
    late = collector.submit(prompt_of(options.rows, options.long_tokens), 3000)
    collector.wait(lambda tracks: tracks[late].tokens)
    joined = collector.tracks.pop(late)
    rows, first = list(collector.tracks.values()), joined.times[0]
    during = gaps(rows, joined.submitted, first)
    result = {"first_token_ms": 1e3 * (first - joined.submitted)}
    add_times(result, "gap_ms_before", gaps(rows, begin, joined.submitted))
    add_times(result, "gap_ms", during)
    result["rows_tokens_per_s"] = len(during) / (first - joined.submitted)
    return result


def behind(options: argparse.Namespace) -> dict:
    collector = Collector(options.model, 1)
    longest = collector.submit(prompt_of(0, options.long_tokens), SHORT_ANSWER)
    for number in range(1, options.short_prompts + 1):
        collector.submit(prompt_of(number, SHORT_TOKENS), SHORT_ANSWER)
    collector.wait(all_finished)
    first = {id: 1e3 * (t.times[0] - t.submitted) for id, t in collector.tracks.items()}
    result = {"long_first_token_ms": first.pop(longest)}
    add_times(result, "first_token_ms", list(first.values()))
    begin = min(track.submitted for track in collector.tracks.values())
    end = max(track.times[-1] for track in collector.tracks.values())
    result["all_done_ms"] = 1e3 * (end - begin)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios = {one.__name__: one for one in (decode, prefill, joins, behind)}
    parser.add_argument("scenario", choices=scenarios)
    parser.add_argument("model")
    add_sizes(parser)
    options = parser.parse_args()
    print(json.dumps(scenarios[options.scenario](options)))


main()
