#!/usr/bin/env bash
# Prints the environment for running the CUDA build: `. <(./gpu_env.sh)`. Finds CUDA 13's libraries beside
# PyTorch or any other Python package that brought them, else where the toolkit puts them.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
site=$(python3 -c 'import site,sys; print(next(p for p in sys.path if p.endswith("-packages")))' 2>/dev/null || true)
nvidia=$(find "$site/nvidia" -name lib -type d 2>/dev/null | tr '\n' ':')
echo "export LD_LIBRARY_PATH=$here/lib:$here/lib/mlx_cuda_13.libs:$nvidia/usr/local/cuda/lib64"
# Each step of another shape is a graph of its own; MLX would complain about a small cache of them.
echo "export MLX_CUDA_GRAPH_CACHE_SIZE=4096 MLX_ENABLE_CACHE_THRASHING_CHECK=0"
