#!/usr/bin/env python3
"""Writes a GGUF in another of llama.cpp's forms, with llama.cpp's own code.

    gguf_requantise.py [--embedding TYPE] FILE.gguf FORM OUT.gguf

FORM is one of Q4_0, Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, …. --embedding is for the embedding alone,
which is the head too where a model has none. Runs with bench/llama-requirements.txt.
"""

import argparse
import os

import llama_cpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedding", default="", help="Q8_0, Q6_K, …")
    parser.add_argument("source")
    parser.add_argument("form")
    parser.add_argument("out")
    options = parser.parse_args()
    settings = llama_cpp.llama_model_quantize_default_params()
    known = vars(llama_cpp)
    form = known.get(f"LLAMA_FTYPE_MOSTLY_{options.form}", known.get(f"LLAMA_FTYPE_{options.form}"))
    if form is None:
        parser.error(f"llama.cpp knows no {options.form}")
    settings.ftype = form
    settings.allow_requantize = True
    if options.embedding:
        settings.token_embedding_type = known[f"GGML_TYPE_{options.embedding}"]
    unfinished = options.out + ".part"
    if llama_cpp.llama_model_quantize(options.source.encode(), unfinished.encode(), settings) != 0:
        raise SystemExit("llama.cpp could not")
    os.replace(unfinished, options.out)


main()
