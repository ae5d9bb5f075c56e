"""Makes the small random checkpoints in this folder and mlx-lm's logits for them.

    python tests/golden/models/make.py [NAME...]

Needs mlx-lm 0.32.2 and mlx 0.32.4, and for gemma2, whose mlx-lm form has no sliding window,
transformers 5.23 and torch. Each case is a folder as Hugging Face or `mlx_lm.convert` write
it, and expected.safetensors with 48 token ids and the reference's logits [48, vocab] for them. The
reference computes in float32 whatever the storage: what is compared is the arithmetic, not how
bfloat16 rounds on one machine or another.
"""

import json
import pathlib
import shutil
import sys
import zlib

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import gemma2, gemma3_text, llama, qwen2, qwen3, qwen3_moe
from mlx_lm.utils import load_model

FOLDER = pathlib.Path(__file__).parent
TOKENS = 48  # One and a half blocks.
BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128,
    "max_position_embeddings": 256,
    "eos_token_id": [2, 5],
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
ARCHITECTURES = {
    "llama": (llama, {**HEADS, "rope_theta": 10000.0, "tie_word_embeddings": True}),
    "llama3": (
        llama,
        {
            **HEADS,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "qwen2": (
        qwen2,
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": False,
        },
    ),
    "qwen3": (qwen3, {**HEADS, "rope_theta": 1000000.0, "tie_word_embeddings": True}),
    "llama_neighbours": (
        llama,
        {**HEADS, "rope_traditional": True, "tie_word_embeddings": False, "mlp_bias": True},
    ),
    "qwen3_yarn": (
        qwen3,
        {
            **HEADS,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "gemma2": (
        gemma2,
        {
            **HEADS,
            "rope_theta": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 7.0,
            "query_pre_attn_scalar": 24,
            "sliding_window": 20,
        },
    ),
    "gemma3": (
        gemma3_text,
        {
            **HEADS,
            "num_hidden_layers": 3,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 24,
            "sliding_window": 20,
            "sliding_window_pattern": 3,
        },
    ),
    "qwen3_moe": (
        qwen3_moe,
        {
            **HEADS,
            "num_hidden_layers": 3,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": False,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [1],
            "norm_topk_prob": True,
        },
    ),
    "qwen3_moe_raw": (
        qwen3_moe,
        {
            **HEADS,
            "num_hidden_layers": 2,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": False,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [],
            "norm_topk_prob": False,
        },
    ),
    # Wide enough for groups of 128.
    "wide": (
        qwen3,
        {
            "hidden_size": 128,
            "num_hidden_layers": 1,
            "intermediate_size": 128,
            "vocab_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
        },
    ),
}
STORAGES = {  # dtype, then what mlx-lm calls the quantization
    "f32": (mx.float32, None),
    "bf16": (mx.bfloat16, None),
    "f16": (mx.float16, None),
    "q4": (mx.bfloat16, {"group_size": 32, "bits": 4}),
    "q8": (mx.float16, {"group_size": 32, "bits": 8}),
    "q2": (mx.float16, {"group_size": 32, "bits": 2}),
    "q3": (mx.float16, {"group_size": 64, "bits": 3}),
    "q5": (mx.float16, {"group_size": 128, "bits": 5}),
    "q6": (mx.bfloat16, {"group_size": 64, "bits": 6}),
    "mxfp4": (mx.bfloat16, {"group_size": 32, "bits": 4, "mode": "mxfp4"}),
    "nvfp4": (mx.bfloat16, {"group_size": 16, "bits": 4, "mode": "nvfp4"}),
    "mxfp8": (mx.bfloat16, {"group_size": 32, "bits": 8, "mode": "mxfp8"}),
    "mixed": (mx.bfloat16, {"group_size": 32, "bits": 4}),
}
AS_IN_GGUF = {  # What a GGUF leaves no choice in; ../gguf/make.py makes some of these.
    "gemma2_bf16": {"query_pre_attn_scalar": 16},
    "gemma3_bf16": {
        "query_pre_attn_scalar": 16,
        "num_hidden_layers": 6,
        "sliding_window_pattern": 6,
    },
    "qwen3_moe_bf16": {"mlp_only_layers": []},
}
MIXED = {  # As mlx-lm's recipes: some modules wider, some not at all.
    "model.layers.0.self_attn.v_proj": {"group_size": 64, "bits": 6},
    "model.layers.0.mlp.up_proj": {"group_size": 128, "bits": 3},
    "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 8},
    "model.layers.0.self_attn.o_proj": False,
}


def random_weights(model, scale):
    weights = []
    ones = getattr(model, "model_type", "").startswith("gemma")  # Norms of 1 + weight.
    for name, value in tree_flatten(model.parameters()):
        if name.endswith("norm.weight"):
            weights.append((name, (0 if ones else 1) + 0.2 * mx.random.normal(value.shape)))
        else:
            weights.append((name, scale * mx.random.normal(value.shape)))
    model.load_weights(weights)


def by_expert(weights):
    """As Hugging Face stores experts: a tensor for each."""
    out = {}
    for name, value in weights.items():
        if ".switch_mlp." not in name:
            out[name] = value
            continue
        for i in range(value.shape[0]):
            out[name.replace("switch_mlp.", f"experts.{i}.")] = value[i]
    return out


def save(folder, weights, config, shards):
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        return
    names, index = sorted(weights), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i::shards]
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part})
        index.update({name: file for name in part})
    text = json.dumps({"metadata": {}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(text + "\n")


def quantize(model, config, quantization, mixed):
    floats = "mode" in quantization

    def predicate(path, module):
        if not hasattr(module, "to_quantized"):
            return False
        if floats and path.endswith("embed_tokens"):
            return False  # mlx-lm would go on in bfloat16 behind it.
        return MIXED.get(path, True) if mixed else True

    nn.quantize(model, **quantization, class_predicate=predicate)
    config["quantization"] = {**quantization, **(MIXED if mixed else {})}


def dense(model):
    """Every parameter as float32, quantised modules widened."""
    out = {}
    modules = dict(model.named_modules())
    for name, value in tree_flatten(model.parameters()):
        path, _, kind = name.rpartition(".")
        module = modules[path]
        if kind in ("scales", "biases"):
            continue
        if "scales" in module:
            value = mx.dequantize(
                value,
                module.scales,
                module.get("biases"),
                module.group_size,
                module.bits,
                mode=module.mode,
            )
        out[name] = value.astype(mx.float32)
    return out


def transformers_logits(model, config, tokens):
    """Gemma 2's logits [tokens, vocab] in float32, by the code of those who made it."""
    import numpy as np
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = {**config, "attn_implementation": "eager", "tie_word_embeddings": True}
    theirs = Gemma2ForCausalLM(Gemma2Config(**config)).float()
    arrays = dense(model)
    mx.eval(arrays)
    state = {name: torch.from_numpy(np.array(a, copy=False)) for name, a in arrays.items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    theirs.load_state_dict(state, strict=True, assign=True)  # Weights of gigabytes stay one copy.
    with torch.no_grad():
        logits = theirs(torch.tensor([tokens.tolist()])).logits[0]
    return mx.array(logits.numpy())


def make(name, architecture, storage):
    module, extra = ARCHITECTURES[architecture]
    dtype, quantization = STORAGES[storage]
    config = {"model_type": module.__name__.split(".")[-1], **BASE, **extra}
    config.update(AS_IN_GGUF.get(name, {}))
    model = module.Model(module.ModelArgs.from_dict(config))
    if module is gemma3_text:
        model.sanitize({})  # Ties the head to the embedding.
    random_weights(model, 0.25 if config["hidden_size"] == 32 else 0.12)
    model.set_dtype(dtype)
    if quantization:
        quantize(model, config, quantization, storage == "mixed")
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    weights = dict(tree_flatten(model.parameters()))
    if name == "qwen3_moe_bf16":
        weights = by_expert(weights)
    save(folder, weights, config, 2 if name == "qwen2_f32" else 1)

    model, _ = load_model(folder)  # What is on disk, as mlx-lm reads it.
    model.set_dtype(mx.float32)
    tokens = mx.random.randint(0, config["vocab_size"], (TOKENS,)).astype(mx.uint32)
    logits = model(tokens[None])[0]
    if module is gemma2:
        logits = transformers_logits(model, config, tokens)
    assert logits.dtype == mx.float32
    expected = {"tokens": tokens, "logits": logits}
    mx.save_safetensors(str(folder / "expected.safetensors"), expected)
    print(name, float(mx.abs(logits).max()))


FIRST = ("llama", "llama3", "qwen2", "qwen3")  # These draw from one stream of random numbers.
NAMES = [f"{a}_{s}" for a in FIRST for s in ("f32", "bf16", "f16", "q4", "q8")]
NAMES += [f"{a}_{s}" for a in ("gemma2", "gemma3", "qwen3_moe") for s in ("f32", "bf16", "q4")]
NAMES += ["llama_neighbours_f32", "qwen3_yarn_f32", "qwen3_moe_raw_f32"]
NAMES += [f"wide_{s}" for s in ("q2", "q3", "q5", "q6", "mxfp4", "nvfp4", "mxfp8", "mixed")]


def main():
    mx.set_default_device(mx.cpu)
    mx.random.seed(7)
    for name in NAMES:
        architecture, _, storage = name.rpartition("_")
        if architecture not in FIRST:
            mx.random.seed(zlib.crc32(name.encode()))
        elif sys.argv[1:]:
            continue
        if not sys.argv[1:] or name in sys.argv[1:]:
            make(name, architecture, storage)


if __name__ == "__main__":
    main()
