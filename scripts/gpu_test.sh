#!/usr/bin/env bash
# The tests that need a GPU, run from the unpacked archive of `make cuda`: kernels against plain operations, then
# whole decode steps against float32 on the CPU, over checkpoints of random weights made on the spot.
set -euo pipefail
cd "$(dirname "$0")"
. <(./gpu_env.sh)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
bin/engine_cuda_test
dense='{"model_type":"qwen3","head_dim":128,"hidden_size":512,"num_attention_heads":8,"num_key_value_heads":2,
  "intermediate_size":1024,"num_hidden_layers":4,"vocab_size":1024,"rms_norm_eps":1e-6,"rope_theta":1000000,
  "max_position_embeddings":4096,"tie_word_embeddings":true,"hidden_act":"silu","eos_token_id":3}'
experts='{"model_type":"qwen3_moe","head_dim":128,"hidden_size":512,"num_attention_heads":32,"num_key_value_heads":4,
  "intermediate_size":1536,"moe_intermediate_size":768,"num_experts":128,"num_experts_per_tok":8,"norm_topk_prob":true,
  "decoder_sparse_step":1,"mlp_only_layers":[],"num_hidden_layers":2,"vocab_size":1024,"rms_norm_eps":1e-6,
  "rope_theta":1000000,"max_position_embeddings":4096,"tie_word_embeddings":false,"hidden_act":"silu","eos_token_id":3}'
echo "$dense" > "$work/dense.json"; echo "$experts" > "$work/experts.json"
for name in dense experts; do python3 make_checkpoint.py "$work/$name.json" "$work/$name"; done
MLXS_GPU_MODELS="$work/dense $work/experts" bin/gpu_decode_step_test
