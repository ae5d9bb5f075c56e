// The device's half of ops/cuda: compiled by nvcc into one fat binary that module.cpp embeds.

#include "engine/ops/cuda/attention_kernels.cu"
#include "engine/ops/cuda/step_kernels.cu"
