"""bench/tools/make_checkpoint.py: every architecture and layout it writes is one that we load."""

import json
import subprocess
import sys

import pytest

from support.processes import repository
from support.server import Worker

MAKE = repository() / "bench/tools/make_checkpoint.py"
BASE = {"hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 128, "rms_norm_eps": 1e-5,
        "vocab_size": 320, "max_position_embeddings": 512, "eos_token_id": [300],
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "rope_theta": 10000.0,
        "tie_word_embeddings": True}
GEMMA = {"query_pre_attn_scalar": 32, "sliding_window": 64, "hidden_activation": "gelu_pytorch_tanh"}
MODELS = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": False, "hidden_size": 128},
    "qwen3": {},
    "qwen3_moe": {"tie_word_embeddings": False, "num_experts": 8, "num_experts_per_tok": 2,
                  "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": 64,
                  "norm_topk_prob": True},
    "gemma2": {**GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma3_text": {**GEMMA, "sliding_window_pattern": 2, "rope_local_base_freq": 10000.0},
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layout", [[], ["--bits", "4", "--shard-bytes", "60000"]],
                         ids=["bf16", "4bit-sharded"])
def test_ours_loads_what_it_writes(tmp_path, kind, layout):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": kind, **BASE, **MODELS[kind]}))
    subprocess.run([sys.executable, str(MAKE), str(config), str(tmp_path / "model"), "--layers", "2",
                    *layout], check=True, capture_output=True)

    with Worker(tmp_path, str(tmp_path / "model")) as worker:
        worker.wait_ready()
        reply = worker.chat("Hello", max_tokens=8)

    assert reply.status == 200, reply.body
    answer = reply.json["choices"][0]
    assert answer["finish_reason"] in ("length", "stop")
    assert reply.json["usage"]["completion_tokens"] >= 1
    if answer["finish_reason"] == "length":
        assert answer["message"]["content"]
