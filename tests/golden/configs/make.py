"""Makes the reference logits beside the real configurations in this folder.

    python tests/golden/configs/make.py [NAME...]

The *.json named after models are the config.json of their Hugging Face repositories (Qwen/Qwen3-4B,
Qwen/Qwen3-30B-A3B, google/gemma-2-27b). cases.json says what of them is made smaller so that it fits
a test: always the layers and the vocabulary, in the small cases experts, feed-forward width or window
too. Weights are those of bench/tools/make_checkpoint.py, made anew by the test; token i is
(31·i² + 17·i + 7) mod vocabulary. NAME.safetensors has "positions" and "logits" [positions, vocab] in
float32, by mlx-lm or, for gemma2, transformers. Needs what ../models/make.py needs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import mlx.core as mx
from mlx_lm.utils import load_model

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "models"))
from make import transformers_logits  # noqa: E402

GENERATOR = FOLDER.parents[2] / "bench/tools/make_checkpoint.py"


def make(case):
    with tempfile.TemporaryDirectory() as folder:
        source = FOLDER / f"{case['config']}.json"
        command = [sys.executable, GENERATOR, source, folder, "--bits", str(case["bits"])]
        subprocess.run([*command, *case["arguments"]], check=True)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        model, _ = load_model(pathlib.Path(folder))
    model.set_dtype(mx.float32)
    count, vocab = case["tokens"], config["vocab_size"]
    tokens = mx.array([(31 * i * i + 17 * i + 7) % vocab for i in range(count)])
    positions = [0, count // 3, count // 2, count - 2, count - 1]
    if config["model_type"] == "gemma2":
        config.pop("quantization", None)
        logits = transformers_logits(model, config, tokens)
    else:
        logits = model(tokens[None])[0]
    logits = logits[mx.array(positions)]
    assert logits.dtype == mx.float32
    expected = {"positions": mx.array(positions, dtype=mx.uint32), "logits": logits}
    mx.save_safetensors(str(FOLDER / f"{case['name']}.safetensors"), expected)
    print(case["name"], float(mx.abs(logits).max()), flush=True)


def main():
    mx.set_default_device(mx.cpu)
    for case in json.loads((FOLDER / "cases.json").read_text()):
        if not sys.argv[1:] or case["name"] in sys.argv[1:] or case["size"] in sys.argv[1:]:
            make(case)


if __name__ == "__main__":
    main()
