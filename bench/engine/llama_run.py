#!/usr/bin/env python3
"""llama.cpp through the scenarios of engine_bench that it can be asked for: same token ids, same
figures.

    llama_run.py decode|prefill FILE.gguf [--rows N] [--prompt-tokens N] [--answer-tokens N] …

One llama_decode a step with a token of each sequence, as its own llama-batched-bench does; greedy,
with numpy's argmax. Every core a thread. Of its settings, --flash and --unified (one KV stream for
all sequences) can be tried; the defaults are what was fastest. Runs with
bench/llama-requirements.txt.
"""

import argparse
import ctypes
import json
import os
import time

import llama_cpp
import numpy as np

from workload import PREFILLS, TOKENS_SHOWN, add_sizes, add_times, prefill_figures, prompt_of

BATCH_TOKENS = 512


def no_log(level: int, text: bytes, data: int) -> None:
    del level, text, data


class Llama:
    """A context for `rows` sequences of up to `row_tokens` tokens."""

    def __init__(self, options: argparse.Namespace, rows: int, row_tokens: int):
        self.log = llama_cpp.llama_log_callback(no_log)
        llama_cpp.llama_log_set(self.log, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            options.model.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {options.model}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self.model))
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = rows * ((row_tokens + 255) // 256 * 256)
        settings.n_batch = settings.n_ubatch = BATCH_TOKENS
        settings.n_seq_max = rows
        settings.n_threads = settings.n_threads_batch = len(os.sched_getaffinity(0))
        settings.flash_attn_type = int(options.flash)
        settings.kv_unified = bool(options.unified)
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def decode(self, entries: list[tuple[int, int, int, bool]]) -> list[int]:
        """A step over (token, position, row, whether its next token is wanted): those tokens."""
        batch = self.batch
        batch.n_tokens = len(entries)
        wanted = []
        for i, (token, position, row, want) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, want
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
            if want:
                wanted.append(i)
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        tokens = []
        for i in wanted:
            logits = llama_cpp.llama_get_logits_ith(self.context, i)
            address = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
            tokens.append(int(np.argmax(np.ctypeslib.as_array(address, (self.vocabulary,)))))
        return tokens

    def prefill(self, row: int, prompt: list[int]) -> int:
        first = []
        for begin in range(0, len(prompt), BATCH_TOKENS):
            part = prompt[begin:begin + BATCH_TOKENS]
            first = self.decode([(token, begin + i, row, begin + i + 1 == len(prompt))
                                 for i, token in enumerate(part)])
        return first[0]


def decode(options: argparse.Namespace) -> dict:
    rows, prompt_tokens = options.rows, options.prompt_tokens
    llama = Llama(options, rows, prompt_tokens + options.answer_tokens)
    answers = [[llama.prefill(row, prompt_of(row, prompt_tokens))] for row in range(rows)]
    at = [time.perf_counter()]
    for step in range(options.answer_tokens - 1):
        tokens = llama.decode([(answers[row][-1], prompt_tokens + step, row, True)
                               for row in range(rows)])
        at.append(time.perf_counter())
        for answer, token in zip(answers, tokens):
            answer.append(token)
    result = {"tokens_per_s": rows * (len(at) - 1) / (at[-1] - at[0])}
    add_times(result, "step_ms", [1e3 * (b - a) for a, b in zip(at, at[1:])])
    result["tokens"] = [answer[:TOKENS_SHOWN] for answer in answers]
    return result


def prefill(options: argparse.Namespace) -> dict:
    llama = Llama(options, 1, options.prompt_tokens)
    times = []
    for number in range(PREFILLS + 1):
        llama.clear()
        begin = time.perf_counter()
        llama.prefill(0, prompt_of(number, options.prompt_tokens))
        if number:  # The first one warms up.
            times.append(1e3 * (time.perf_counter() - begin))
    return prefill_figures(options.prompt_tokens, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios = {one.__name__: one for one in (decode, prefill)}
    parser.add_argument("scenario", choices=scenarios)
    parser.add_argument("model")
    add_sizes(parser)
    parser.add_argument("--flash", type=int, choices=(0, 1), default=1)
    parser.add_argument("--unified", type=int, choices=(0, 1), default=0)
    options = parser.parse_args()
    print(json.dumps(scenarios[options.scenario](options)))


main()
