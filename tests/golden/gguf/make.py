"""Makes the files in this folder.

    python tests/golden/gguf/make.py

Needs gguf 0.19, mlx 0.32.4 and numpy. blocks.safetensors has, for every block type that we read,
some blocks ("Q4_K.bytes") and what gguf-py's dequantisation makes of them ("Q4_K.values"). The .gguf
files hold the checkpoints of ../models under llama.cpp's names (by gguf-py's own table) and
conventions; their logits are those of the folder they were made from.
"""

import json
import pathlib

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants

FOLDER = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(5)


def halves(values):
    return np.ascontiguousarray(values, dtype=np.float16).view(np.uint8).reshape(len(values), -1)


def random_blocks(kind, count):
    """Any bytes, but scales that are ordinary numbers: those stand where `at` says."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = RANDOM.integers(0, 256, (count, size), dtype=np.uint8)
    scale = halves(RANDOM.uniform(0.001, 0.01, (count, 1)))
    if kind == Type.MXFP4:
        blocks[:, :1] = RANDOM.integers(110, 125, (count, 1))
        return blocks
    blocks[:, :2] = scale
    if kind in (Type.Q4_1, Type.Q5_1, Type.Q4_K, Type.Q5_K):
        blocks[:, 2:4] = halves(RANDOM.uniform(0.001, 0.01, (count, 1)))
    return blocks


def two_bits(q):
    """[n, 256] values of two bits, 32 neighbours to a row, four rows to 32 bytes."""
    rows = q.reshape(-1, 2, 4, 32).astype(np.uint8)
    return (rows << np.array([0, 2, 4, 6], np.uint8)[None, None, :, None]).sum(2, dtype=np.uint8)


# Simple quantisers for what gguf-py only reads, so that errors are measured on blocks as they come.
def q2_k(x):
    groups = x.reshape(-1, 16, 16)
    least = np.minimum(groups.min(2), 0)
    step = (groups.max(2) - least) / 3
    d, dmin = step.max(1, keepdims=True) / 15, -least.min(1, keepdims=True) / 15
    sc, m = np.rint(step / d).clip(1, 15), np.rint(-least / dmin).clip(0, 15)
    q = np.rint((groups + (dmin * m)[..., None]) / (d * sc)[..., None]).clip(0, 3)
    scales = (sc.astype(np.uint8) | m.astype(np.uint8) << 4).reshape(-1, 16)
    return np.concatenate([scales, two_bits(q).reshape(-1, 64), halves(d), halves(dmin)], 1)


def q3_k(x):
    groups = x.reshape(-1, 16, 16)
    step = np.abs(groups).max(2) / 4
    d = step.max(1, keepdims=True) / 31
    sc = np.rint(step / d).clip(1, 31)
    q = (np.rint(groups / (d * sc)[..., None]).clip(-4, 3) + 4).astype(np.uint8).reshape(-1, 8, 32)
    mask = ((q >> 2) << np.arange(8, dtype=np.uint8)[None, :, None]).sum(1, dtype=np.uint8)
    s = (sc + 32).astype(np.uint8)
    low = (s[:, :8] & 15) | (s[:, 8:] & 15) << 4
    high = (
        (s >> 4).reshape(-1, 4, 4) << np.array([0, 2, 4, 6], np.uint8)[None, :, None]
    ).sum(1, dtype=np.uint8)
    return np.concatenate([mask, two_bits(q & 3).reshape(-1, 64), low, high, halves(d)], 1)


def q6_k(x):
    groups = x.reshape(-1, 16, 16)
    step = np.abs(groups).max(2) / 32
    d = step.max(1, keepdims=True) / 127
    sc = np.rint(step / d).clip(1, 127)
    q = (np.rint(groups / (d * sc)[..., None]).clip(-32, 31) + 32).astype(np.uint8)
    rows = (q & 15).reshape(-1, 2, 2, 64)
    low = (rows[:, :, 0] | rows[:, :, 1] << 4).reshape(-1, 128)
    high = two_bits(q >> 4).reshape(-1, 64)
    return np.concatenate([low, high, sc.astype(np.int8).view(np.uint8), halves(d)], 1)


def make_blocks():
    tensors = {}
    kinds = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K IQ4_NL IQ4_XS MXFP4".split()
    for name in kinds:
        kind = Type[name]
        elements, _ = gguf.GGML_QUANT_SIZES[kind]
        tensors[name] = random_blocks(kind, 1024 // elements)
    weights = RANDOM.normal(0, 0.05, (16, 256)).astype(np.float32)
    for name, quantise in (("Q2_K", q2_k), ("Q3_K", q3_k), ("Q6_K", q6_k)):
        tensors[name] = quantise(weights)
        values = quants.dequantize(tensors[name], Type[name])
        print(name, "against its source:", np.linalg.norm(values - weights) / np.linalg.norm(weights))
    out = {}
    for name, blocks in tensors.items():
        out[f"{name}.bytes"] = mx.array(blocks.reshape(-1))
        out[f"{name}.values"] = mx.array(quants.dequantize(blocks, Type[name]).reshape(-1))
    mx.save_safetensors(str(FOLDER / "blocks.safetensors"), out)


def interleaved(weight, heads):
    """Llama's query and key rows as llama.cpp turns them: neighbours instead of halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def make_model(name, architecture):
    source = FOLDER.parent / "models" / name
    config = json.loads((source / "config.json").read_text())
    weights = mx.load(str(source / "model.safetensors"))
    layers = config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(architecture, layers)
    writer = gguf.GGUFWriter(str(FOLDER / f"{name}.gguf"), gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    for token in config["eos_token_id"][:1]:
        writer.add_eos_token_id(token)
    writer.add_eot_token_id(config["eos_token_id"][1])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if "sliding_window" in config:
        writer.add_sliding_window(config["sliding_window"])
    if "rope_scaling" in config:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    gemma = architecture in (gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3)
    stacked = {}
    for key, value in sorted(weights.items()):
        if ".experts." in key:
            layer, _, rest = key.partition(".experts.")
            number, _, rest = rest.partition(".")
            stacked.setdefault(f"{layer}.experts.{rest}", {})[int(number)] = value
            continue
        stacked[key] = value
    for key, value in stacked.items():
        if isinstance(value, dict):
            value = mx.stack([value[i] for i in sorted(value)])
        array = np.array(value.astype(mx.float32))
        if gemma and key.endswith("norm.weight"):
            array = array + 1
        if architecture == gguf.MODEL_ARCH.LLAMA and ".q_proj." in key:
            array = interleaved(array, config["num_attention_heads"])
        if architecture == gguf.MODEL_ARCH.LLAMA and ".k_proj." in key:
            array = interleaved(array, config["num_key_value_heads"])
        theirs = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert theirs, key
        if array.ndim == 1:
            writer.add_tensor(theirs, array.astype(np.float32))
        else:
            writer.add_tensor(theirs, quants.quantize(array, Type.BF16), raw_dtype=Type.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    make_blocks()
    make_model("llama_bf16", gguf.MODEL_ARCH.LLAMA)
    make_model("qwen3_bf16", gguf.MODEL_ARCH.QWEN3)
    make_model("gemma2_bf16", gguf.MODEL_ARCH.GEMMA2)
    make_model("gemma3_bf16", gguf.MODEL_ARCH.GEMMA3)
    make_model("qwen3_moe_bf16", gguf.MODEL_ARCH.QWEN3MOE)


main()
