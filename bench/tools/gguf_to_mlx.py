#!/usr/bin/env python3
"""Writes a llama GGUF as a folder that mlx-lm reads, with the very same weights, so that a baseline
runs on what ours runs on.

    gguf_to_mlx.py [--dense] FILE.gguf FOLDER

Q4_0, Q4_1 and Q8_0 become affine groups of 32 (same codes, scales and offsets, no rounding); what
else there is is widened to float32. --dense widens everything: on a CPU MLX multiplies float32
through BLAS and quantised matrices on one core, so that is the faster baseline there. Needs mlx, gguf and tokenizers (bench/requirements.txt).
"""

import argparse
import json
import pathlib
import sys

import mlx.core as mx
import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}


def hugging_face_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if not stem.startswith("blk."):
        return NAMES[stem]
    _, layer, kind = stem.split(".")
    return f"model.layers.{layer}.{NAMES[kind]}"


def deinterleave(rows: mx.array, heads: int) -> mx.array:
    """GGUF's row (head, i, half) back to Hugging Face's (head, half, i)."""
    width = rows.shape[1]
    return rows.reshape(heads, -1, 2, width).swapaxes(1, 2).reshape(-1, width)


def read_weights(path: str, reader: GGUFReader, heads: int, kv_heads: int,
                 dense: bool) -> tuple[dict, dict]:
    """Tensors by Hugging Face name, and for quantised matrices their bits."""
    loaded = mx.load(path)
    weights, bits = {}, {}
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        stem = tensor.name.removesuffix(".weight")
        parts = {suffix: loaded[f"{stem}.{suffix}"] for suffix in ("weight", "scales", "biases")
                 if f"{stem}.{suffix}" in loaded}
        if tensor.tensor_type.name in BITS and not dense:
            bits[name] = BITS[tensor.tensor_type.name]
        else:
            wide = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            parts = {"weight": mx.array(wide)}
        for suffix, value in parts.items():
            if ".attn_q." in tensor.name:
                value = deinterleave(value, heads)
            if ".attn_k." in tensor.name:
                value = deinterleave(value, kv_heads)
            weights[f"{name}.{suffix}"] = mx.contiguous(value)
    return weights, bits


def write_tokenizer(reader: GGUFReader, folder: pathlib.Path) -> None:
    value = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    tokens, types = value("tokens"), value("token_type")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types) if kind == 3])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": tokens[value("eos_token_id")], "bos_token": tokens[value("bos_token_id")],
                "clean_up_tokenization_spaces": False,
                "chat_template": reader.fields["tokenizer.chat_template"].contents()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("path")
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    path, folder = arguments.path, arguments.folder
    mx.set_default_device(mx.cpu)
    reader = GGUFReader(path)
    value = lambda key: reader.fields["llama." + key].contents()
    if reader.fields["general.architecture"].contents() != "llama":
        sys.exit("only the llama architecture is known here")
    if reader.fields["tokenizer.ggml.pre"].contents() != "smollm":
        sys.exit("only SmolLM's tokenizer is known here")
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    weights, bits = read_weights(path, reader, heads, kv_heads, arguments.dense)
    usual = max(bits.values(), key=list(bits.values()).count, default=0)
    config = {
        "model_type": "llama", "hidden_size": value("embedding_length"),
        "num_hidden_layers": value("block_count"),
        "intermediate_size": value("feed_forward_length"), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": float(value("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(value("rope.freq_base")), "vocab_size": value("vocab_size"),
        "max_position_embeddings": value("context_length"),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "eos_token_id": reader.fields["tokenizer.ggml.eos_token_id"].contents(),
    }
    if bits:
        config["quantization"] = {"group_size": 32, "bits": usual,
                                  **{name: {"group_size": 32, "bits": its}
                                     for name, its in bits.items() if its != usual}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_tokenizer(reader, folder)


main()
