"""Makes the small random checkpoints in this folder and mlx-lm's logits for them.

    python tests/golden/models/make.py

Needs mlx-lm 0.32.2 and mlx 0.32.4. Each case is a folder as Hugging Face or `mlx_lm.convert` write
it, and expected.safetensors with 48 token ids and the reference's logits [48, vocab] for them. The
reference computes in float32 whatever the storage: what is compared is the arithmetic, not how
bfloat16 rounds on one machine or another.
"""

import json
import pathlib
import shutil

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models import llama, qwen2, qwen3
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
}
STORAGES = {
    "f32": (mx.float32, None),
    "bf16": (mx.bfloat16, None),
    "f16": (mx.float16, None),
    "q4": (mx.bfloat16, 4),
    "q8": (mx.float16, 8),
}


def random_weights(model):
    weights = []
    for name, value in tree_flatten(model.parameters()):
        if name.endswith("norm.weight"):
            weights.append((name, 1 + 0.2 * mx.random.normal(value.shape)))
        else:
            weights.append((name, 0.25 * mx.random.normal(value.shape)))
    model.load_weights(weights)


def save(folder, model, config, shards):
    weights = dict(tree_flatten(model.parameters()))
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


def make(name, architecture, storage):
    module, extra = ARCHITECTURES[architecture]
    dtype, bits = STORAGES[storage]
    config = {"model_type": module.__name__.split(".")[-1], **BASE, **extra}
    model = module.Model(module.ModelArgs.from_dict(config))
    random_weights(model)
    model.set_dtype(dtype)
    if bits:
        nn.quantize(model, group_size=32, bits=bits)
        config["quantization"] = {"group_size": 32, "bits": bits}
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save(folder, model, config, 2 if name == "qwen2_f32" else 1)

    model, _ = load_model(folder)  # What is on disk, as mlx-lm reads it.
    model.set_dtype(mx.float32)
    tokens = mx.random.randint(0, config["vocab_size"], (TOKENS,)).astype(mx.uint32)
    logits = model(tokens[None])[0]
    assert logits.dtype == mx.float32
    expected = {"tokens": tokens, "logits": logits}
    mx.save_safetensors(str(folder / "expected.safetensors"), expected)
    print(name, float(mx.abs(logits).max()))


def main():
    mx.set_default_device(mx.cpu)
    mx.random.seed(7)
    for architecture in ARCHITECTURES:
        for storage in STORAGES:
            make(f"{architecture}_{storage}", architecture, storage)


main()
