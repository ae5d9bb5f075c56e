"""Makes smollm2_135m.json: greedy continuations of SmolLM2-135M by mlx-lm in float32.

    python tests/golden/greedy/make.py build/models/SmolLM2-135M-Instruct.Q4_1.gguf

Needs mlx-lm 0.32.2, mlx 0.32.4, gguf and tokenizers. The weights are those of the GGUF, widened to
float32 by the `gguf` package and put back into Hugging Face's names and row order, so that mlx-lm
and the engine compute with the same numbers. For each prompt the file keeps its token ids, the ids
of the continuation, and at each position the gap between the two best logits: where the gap is
below a test's epsilon, either token is right and the rest of that row is not compared.
"""

import json
import pathlib
import sys
import tempfile

import mlx.core as mx
import numpy as np
from gguf import GGUFReader, dequantize
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

NEW_TOKENS = 64
CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
PROMPTS = [
    CHAT.format("What is the capital of France?"),
    CHAT.format("Write a haiku about the sea."),
    CHAT.format("Explain in two sentences why the sky is blue."),
    CHAT.format("List three fruits and their colours as JSON."),
    CHAT.format("Translate to Spanish: Where is the library?"),
    CHAT.format("What is 17 + 25? Answer with the number only."),
    CHAT.format("Hi"),
    CHAT.format("Wie heißt die Hauptstadt von Österreich? 🌍"),
    "Once upon a time, in a small village by the river,",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "The three laws of thermodynamics state that",
    "import numpy as np\n\ndef softmax(x):\n",
    "1, 2, 3, 4, 5, 6, 7,",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "SELECT name, count(*) FROM users WHERE",
    "A",
    "In 1969, the first humans landed on the Moon. The mission was called",
    "# Introduction\n\nMachine learning is a field of",
    "Dear Sir or Madam,\n\nI am writing to complain about",
    "Roses are red,\nviolets are blue,\n",
]
HUGGING_FACE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hugging_face_name(name):
    if not name.startswith("blk."):
        return HUGGING_FACE[name]
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{HUGGING_FACE[kind]}.{suffix}"


def deinterleave(rows, heads):
    """GGUF's row (head, i, half) back to Hugging Face's (head, half, i)."""
    width = rows.shape[1]
    return rows.reshape(heads, -1, 2, width).swapaxes(1, 2).reshape(-1, width)


def write_checkpoint(reader, folder):
    value = lambda key: reader.fields["llama." + key].contents()
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    weights = {}
    for tensor in reader.tensors:
        rows = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            rows = deinterleave(rows, heads)
        if ".attn_k." in tensor.name:
            rows = deinterleave(rows, kv_heads)
        weights[hugging_face_name(tensor.name)] = mx.array(rows)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = {
        "model_type": "llama",
        "hidden_size": value("embedding_length"),
        "num_hidden_layers": value("block_count"),
        "intermediate_size": value("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": float(value("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(value("rope.freq_base")),
        "vocab_size": value("vocab_size"),
        "max_position_embeddings": value("context_length"),
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))


def make_tokenizer(reader):
    value = lambda key: reader.fields["tokenizer.ggml." + key].contents()
    tokens, types = value("tokens"), value("token_type")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def continue_greedily(model, ids):
    cache = make_prompt_cache(model)
    tokens, gaps = [], []
    inputs = mx.array([ids])
    for _ in range(NEW_TOKENS):
        logits = np.array(model(inputs, cache=cache)[0, -1])
        best = np.argsort(-logits, kind="stable")[:2]
        tokens.append(int(best[0]))
        gaps.append(round(float(logits[best[0]] - logits[best[1]]), 5))
        inputs = mx.array([[tokens[-1]]])
    return tokens, gaps


def main():
    mx.set_default_device(mx.cpu)
    reader = GGUFReader(sys.argv[1])
    tokenizer = make_tokenizer(reader)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_checkpoint(reader, folder)
        model, _ = load_model(folder)
        for prompt in PROMPTS:
            ids = tokenizer.encode(prompt, add_special_tokens=False).ids
            tokens, gaps = continue_greedily(model, ids)
            text = tokenizer.decode(tokens)
            rows.append({"prompt": ids, "tokens": tokens, "gaps": gaps, "text": text})
            print(len(ids), min(gaps), repr(text[:60]), flush=True)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    out = pathlib.Path(__file__).parent / "smollm2_135m.json"
    out.write_text('{"rows":[\n' + lines + "\n]}\n")


main()
