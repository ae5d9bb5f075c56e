#!/usr/bin/env python3
"""Writes a checkpoint with random weights from a config.json, so that every engine loads the same
files and nobody has to download a model to measure one.

    make_checkpoint.py CONFIG FOLDER [--layers N] [--bits 4] [--set key=value]...

Hugging Face's names in bfloat16, or with --bits the layout of `mlx_lm.convert` (affine, experts
stacked, the router of experts in 8 bits). Knows llama, qwen2, qwen3, qwen3_moe, gemma2, gemma3_text
and gemma3. Beside the weights it writes a tokenizer in which every byte is a token and every other
id has a text of its own, so that each token drawn is seen by a client.

Values come from one page of random numbers that is written over and over; its length is a prime, so
that no two rows of a matrix are alike. Speed is that of the disk. Standard library only: runs
anywhere, without MLX and NumPy.
"""

import argparse
import array
import json
import math
import pathlib
import random
import re
import struct
import sys
import zlib
from typing import Iterator, NamedTuple

PAGE_SMALL, PAGE_LARGE = 65_521, 1_048_573  # Primes.
LARGE_FROM = 64 << 20  # Bytes of a checkpoint.
GEMMA = ("gemma2", "gemma3", "gemma3_text")
KNOWN = ("llama", "qwen2", "qwen3", "qwen3_moe", *GEMMA)


class Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: str  # "BF16" or "U32"
    kind: str  # "normal", "norm", "bias", "packed", "scales", "biases"
    spread: float  # Standard deviation of the values it stands for.
    bits: int = 0
    page_of: str = ""  # Scales and biases of one matrix lie on the same place of their pages.

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * (2 if self.dtype == "BF16" else 4)


class Layout:
    """Lists the tensors of a model."""

    def __init__(self, config: dict, bits: int, group: int):
        self.config = {**config, **config.get("text_config", {})}
        self.type = config["model_type"]
        self.bits, self.group = bits, group
        self.prefix = "language_model." if self.type == "gemma3" else ""
        self.overrides: dict[str, dict] = {}  # Of "quantization", by name of a matrix.
        self.tensors: list[Tensor] = []
        self.model()

    def matrix(self, name: str, rows: int, columns: int, experts: int = 0, bits: int = 0,
               gain: float = 1.0) -> None:
        spread = gain / math.sqrt(columns)
        lead = (experts,) if experts else ()
        name = self.prefix + name
        if not self.bits:
            self.tensors.append(Tensor(f"{name}.weight", (*lead, rows, columns), "BF16", "normal",
                                       spread))
            return
        bits = bits or self.bits
        words, groups = columns * bits // 32, columns // self.group
        if columns % self.group or columns * bits % 32:
            sys.exit(f"{name}: {columns} columns are no multiple of the group of {self.group}")
        if bits != self.bits:
            self.overrides[name] = {"group_size": self.group, "bits": bits}
        self.tensors.append(Tensor(f"{name}.weight", (*lead, rows, words), "U32", "packed", 0))
        for kind in ("scales", "biases"):
            self.tensors.append(Tensor(f"{name}.{kind}", (*lead, rows, groups), "BF16", kind,
                                       spread, bits, name))

    def vector(self, name: str, size: int, kind: str) -> None:
        self.tensors.append(Tensor(self.prefix + name, (size,), "BF16", kind, 0.1))

    def norm(self, name: str, size: int) -> None:
        # Gemma stores the distance from one.
        self.vector(name + ".weight", size, "bias" if self.type in GEMMA else "norm")

    def model(self) -> None:
        config = self.config
        hidden = config["hidden_size"]
        # Twice the usual spread: logits with some contrast, as a trained model's have. Gemma ties
        # and scales its embedding up, so that with more a token would always follow itself.
        gain = 0.5 if self.type in GEMMA else 2.0
        self.matrix("model.embed_tokens", config["vocab_size"], hidden, gain=gain)
        for layer in range(config["num_hidden_layers"]):
            self.layer(layer)
        self.norm("model.norm", hidden)
        if not config.get("tie_word_embeddings", self.type in GEMMA):
            self.matrix("lm_head", config["vocab_size"], hidden, gain=gain)

    def layer(self, index: int) -> None:
        config, at = self.config, f"model.layers.{index}."
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads", heads)
        head_dim = config.get("head_dim") or hidden // heads
        bias = self.type == "qwen2" or config.get("attention_bias", False)
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            self.matrix(f"{at}self_attn.{name}_proj", rows * head_dim, hidden)
            if bias:
                self.vector(f"{at}self_attn.{name}_proj.bias", rows * head_dim, "bias")
        self.matrix(f"{at}self_attn.o_proj", hidden, heads * head_dim)
        if bias and self.type != "qwen2":
            self.vector(f"{at}self_attn.o_proj.bias", hidden, "bias")
        if self.type in ("qwen3", "qwen3_moe", "gemma3", "gemma3_text"):
            for name in ("q_norm", "k_norm"):
                self.norm(f"{at}self_attn.{name}", head_dim)
        norms = ["input_layernorm", "post_attention_layernorm"]
        if self.type in GEMMA:
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in norms:
            self.norm(at + name, hidden)
        if self.type == "qwen3_moe" and index not in config.get("mlp_only_layers", []) \
                and (index + 1) % config.get("decoder_sparse_step", 1) == 0:
            self.experts(at + "mlp.")
        else:
            self.mlp(at + "mlp.", config["intermediate_size"])

    def mlp(self, at: str, width: int) -> None:
        hidden = self.config["hidden_size"]
        self.matrix(at + "gate_proj", width, hidden)
        self.matrix(at + "up_proj", width, hidden)
        self.matrix(at + "down_proj", hidden, width)

    def experts(self, at: str) -> None:
        config = self.config
        hidden, width = config["hidden_size"], config["moe_intermediate_size"]
        self.matrix(at + "gate", config["num_experts"], hidden, bits=8)
        if not self.bits:
            for expert in range(config["num_experts"]):
                self.mlp(f"{at}experts.{expert}.", width)
            return
        for name, rows, columns in (("gate_proj", width, hidden), ("up_proj", width, hidden),
                                    ("down_proj", hidden, width)):
            self.matrix(f"{at}switch_mlp.{name}", rows, columns, config["num_experts"])


def bfloat16(values: list[float]) -> bytes:
    """Rounded to the nearest even."""
    words = array.array("I", array.array("f", values).tobytes())
    halves = array.array("H", [(w + 0x7FFF + (w >> 16 & 1)) >> 16 for w in words])
    if sys.byteorder == "big":
        halves.byteswap()
    return halves.tobytes()


class Pages:
    """Random numbers of each kind and spread, made once."""

    def __init__(self, size: int, seed: int):
        self.size = size
        chance = random.Random(seed)
        self.normal = [chance.gauss(0, 1) for _ in range(size)]
        self.packed = chance.randbytes(4 * size)
        self.made: dict[tuple, bytes] = {}

    def page(self, tensor: Tensor) -> bytes:
        if tensor.kind == "packed":
            return self.packed
        key = (tensor.kind, tensor.spread, tensor.bits)
        if key not in self.made:
            self.made[key] = bfloat16(self.values(tensor))
        return self.made[key]

    def values(self, tensor: Tensor) -> list[float]:
        if tensor.kind == "normal" or tensor.kind == "bias":
            return [x * tensor.spread for x in self.normal]
        if tensor.kind == "norm":
            return [1 + x * tensor.spread for x in self.normal]
        # Codes are even over 0 … 2^bits - 1: their spread and middle make the matrix's.
        codes = 1 << tensor.bits
        step = tensor.spread / math.sqrt((codes * codes - 1) / 12)
        scales = [step * (1 + 0.1 * max(-3.0, min(3.0, x))) for x in self.normal]
        if tensor.kind == "scales":
            return scales
        return [-scale * (codes - 1) / 2 for scale in scales]


def write_tensor(out, tensor: Tensor, pages: Pages) -> None:
    page = memoryview(pages.page(tensor))
    width = 2 if tensor.dtype == "BF16" else 4
    at = zlib.crc32((tensor.page_of or tensor.name).encode()) % pages.size * width
    left = tensor.bytes
    while left > 0:
        part = page[at:at + left]
        out.write(part)
        left -= len(part)
        at = 0


def write_file(path: pathlib.Path, tensors: list[Tensor], pages: Pages, layout: str) -> None:
    header: dict = {"__metadata__": {"format": layout}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape),
                               "data_offsets": [at, at + tensor.bytes]}
        at += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            write_tensor(out, tensor, pages)


def shards(tensors: list[Tensor], bytes_max: int) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    for tensor in tensors:
        if part and sum(t.bytes for t in part) + tensor.bytes > bytes_max:
            yield part
            part = []
        part.append(tensor)
    yield part


def write_weights(folder: pathlib.Path, tensors: list[Tensor], pages: Pages, bytes_max: int,
                  layout: str) -> None:
    parts = list(shards(tensors, bytes_max))
    if len(parts) == 1:
        write_file(folder / "model.safetensors", parts[0], pages, layout)
        return
    where = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05}-of-{len(parts):05}.safetensors"
        write_file(folder / name, part, pages, layout)
        where.update({tensor.name: name for tensor in part})
    index = {"metadata": {"total_size": sum(t.bytes for t in tensors)}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def byte_spellings() -> list[str]:
    """How byte-level vocabularies spell the bytes (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        spelled.setdefault(byte, chr(256 + len(spelled) - len(plain)))
    return [spelled[byte] for byte in range(256)]


CHAT = ("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}")


def write_tokenizer(folder: pathlib.Path, config: dict) -> None:
    size = config["vocab_size"]
    if size < 260:
        sys.exit(f"a vocabulary of {size} has no room for the bytes; at least 260")
    ends = config.get("eos_token_id", [])
    ends = ends if isinstance(ends, list) else [ends]
    special = {f"<|end{id}|>": id for id in ends if id is not None}
    words = byte_spellings()
    words += [f"\u0120w{id}" for id in range(len(words), size)]
    # An end token takes its id from whatever would have it; a byte moves to the last id instead.
    for number, id in enumerate(special.values()):
        if id < 256:
            words[size - 1 - number] = words[id]
    taken = set(special.values())
    vocabulary = {word: id for id, word in enumerate(words) if id not in taken}
    vocabulary.update(special)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    added = [{"id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for text, id in special.items()]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT,
                "clean_up_tokenization_spaces": False}
    if special:
        settings["eos_token"] = next(iter(special))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def read_config(arguments: argparse.Namespace) -> dict:
    config = json.loads(arguments.config.read_text())
    if config.get("model_type") not in KNOWN:
        sys.exit(f"model_type {config.get('model_type')!r} is none of {', '.join(KNOWN)}")
    for name in ("quantization", "quantization_config", "torch_dtype", "dtype"):
        config.pop(name, None)
    config["torch_dtype"] = "bfloat16"
    inner = config.get("text_config", config)
    for change in arguments.set:
        name, value = change.split("=", 1)
        inner[name] = json.loads(value)
    if arguments.layers:
        inner["num_hidden_layers"] = arguments.layers
    if "layer_types" in inner:
        inner["layer_types"] = inner["layer_types"][:inner["num_hidden_layers"]]
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path, help="a config.json")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--layers", type=int, help="fewer than the configuration says")
    parser.add_argument("--bits", type=int, default=0, choices=[0, 2, 4, 8], help="0: bfloat16")
    parser.add_argument("--group", type=int, default=64, help="columns that share a scale")
    parser.add_argument("--shard-bytes", type=int, default=5 << 30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON",
                        help="changes a value of the configuration")
    arguments = parser.parse_args()

    config = read_config(arguments)
    layout = Layout(config, arguments.bits, arguments.group)
    if arguments.bits:
        config["quantization"] = {"group_size": arguments.group, "bits": arguments.bits,
                                  **layout.overrides}
    total = sum(tensor.bytes for tensor in layout.tensors)
    pages = Pages(PAGE_LARGE if total > LARGE_FROM else PAGE_SMALL, arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for old in arguments.folder.iterdir():
        if re.fullmatch(r"model.*\.safetensors(\.index\.json)?", old.name):
            old.unlink()
    (arguments.folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_tokenizer(arguments.folder, layout.config)
    write_weights(arguments.folder, layout.tensors, pages, arguments.shard_bytes,
                  "mlx" if arguments.bits else "pt")
    print(f"{arguments.folder}: {len(layout.tensors)} tensors, {total / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
