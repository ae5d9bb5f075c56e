"""Makes smollm2.json: ids and text of SmolLM2's vocabulary as Hugging Face `tokenizers` gives them.

    python make_tokenizers.py MODEL.gguf

Made with tokenizers 0.23.3, gguf 0.19.0, Python 3.11. The vocabulary and merges are those of the
GGUF; the pre-tokenizers are built here from the models' own tokenizer.json files, independently of
the table in rust/text/src/pre_tokenizers.rs.
"""

import json
import pathlib
import random
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import corpus

HERE = pathlib.Path(__file__).parent


def split(*patterns):
    steps = [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in patterns]
    return pre_tokenizers.Sequence(steps + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TIKTOKEN_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# name: (normalizer, pre-tokenizer, whole words first)
PRE = {
    "smollm": (None, DIGITS, False),
    "gpt-2": (None, GPT2, False),
    "command-r": (normalizers.NFC(), DIGITS, False),
    "llama-bpe": (None, split(ENGLISH + WORD + r"|\p{N}{1,3}" + TAIL), True),
    "qwen2": (normalizers.NFC(), split(ENGLISH + WORD + r"|\p{N}" + TAIL), False),
    "qwen35": (normalizers.NFC(), split(
        ENGLISH + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), False),
    "tekken": (None, split(
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}" + TIKTOKEN_TAIL), True),
    "gpt-4o": (None, split(
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENGLISH}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENGLISH}?"
        r"|\p{N}{1,3}" + TIKTOKEN_TAIL), False),
    "deepseek-v3": (None, split(
        r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), False),
    "default": (None, split(
        r"[\p{P}\$\+<=>\^~\|]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"\p{N}+", "[0-9][0-9][0-9]"), False),
}


def field(reader, key):
    return reader.fields[f"tokenizer.ggml.{key}"].contents()


def build(reader, name):
    normalizer, pre, whole_words = PRE[name]
    tokens, types = field(reader, "tokens"), field(reader, "token_type")
    merges = [tuple(m.split(" ", 1)) for m in field(reader, "merges")]
    model = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=whole_words)
    out = Tokenizer(model)
    out.normalizer, out.pre_tokenizer, out.decoder = normalizer, pre, decoders.ByteLevel()
    out.post_processor = processors.ByteLevel(trim_offsets=False)
    out.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in zip(tokens, types) if kind == 3])
    out.add_tokens([AddedToken(t, normalized=False, special=False) for t, kind in zip(tokens, types) if kind == 4])
    return out


def decode_cases(tokenizer, count, seed):
    """Random ids, which mostly form invalid UTF-8 somewhere, and single bytes, which always do."""
    rng = random.Random(seed)
    size = tokenizer.get_vocab_size()
    out = []
    for index in range(count):
        pool = size if index % 2 else 600
        ids = [rng.randrange(pool) for _ in range(rng.randint(0, 24))]
        out.append([ids, tokenizer.decode(ids, skip_special_tokens=True), tokenizer.decode(ids, skip_special_tokens=False)])
    return out


def write(name, value):
    made_with = {"tokenizers": tokenizers.__version__, "script": pathlib.Path(__file__).name}
    text = json.dumps({"made_with": made_with, **value}, ensure_ascii=True, separators=(",", ":"))
    (HERE / name).write_text(text + "\n")
    print(name, len(text))


def main(path):
    reader = gguf.GGUFReader(path)
    texts = corpus.texts()
    smollm = build(reader, "smollm")
    ids = {name: [build(reader, name).encode(t, add_special_tokens=False).ids for t in texts] for name in PRE}
    write("smollm2.json", {
        "model": pathlib.Path(path).name,
        "texts": texts,
        "ids": ids["smollm"],
        "decoded": [[smollm.decode(i, skip_special_tokens=True), smollm.decode(i, skip_special_tokens=False)] for i in ids["smollm"]],
        "random": decode_cases(smollm, 200, 11),
    })
    del ids["smollm"]
    write("pre_tokenizers.json", {"texts": texts, "ids": ids})


if __name__ == "__main__":
    main(sys.argv[1])
