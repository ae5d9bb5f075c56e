#!/usr/bin/env bash
# Packs what `make cuda` built, with the libraries that a GPU host may lack, and the script that tests it there.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/mlx-serving-cuda
rm -rf "$out"; mkdir -p "$out/bin" "$out/lib" "$out/config"
for name in mlx-serving mlx-serving-worker runner_bench engine_cuda_test gpu_decode_step_test; do
  strip -o "$out/bin/$name" "build/cuda/bin/$name"
done
# Ours are found through the environment that gpu_env.sh prints; CUDA's own come with the host.
ldd build/cuda/bin/mlx-serving build/cuda/bin/mlx-serving-worker 2>/dev/null | awk '$3 ~ "^/" {print $3}' |
  grep -vE '/lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|mlx)\.so' | sort -u | xargs -I{} cp -L {} "$out/lib/"
cp build/deps/mlx-cuda/mlx/lib/libmlx.so "$out/lib/"
cp -r build/deps/mlx-cuda/mlx_cuda_13.libs "$out/lib/"
cp scripts/gpu_env.sh scripts/gpu_test.sh bench/tools/make_checkpoint.py "$out/"
cp config/default.yaml "$out/config/"
tar -C build -czf "$out.tar.gz" mlx-serving-cuda
echo "cuda: $(du -h "$out.tar.gz" | cut -f1) in $out.tar.gz"
