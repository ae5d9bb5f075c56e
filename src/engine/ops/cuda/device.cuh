#pragma once

// What all our kernels are made of: products of 16-bit tiles and copies into shared memory, named.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace mlxs::engine::cuda {

template <class T>
struct Pair;
template <>
struct Pair<__nv_bfloat16> {
  static __device__ unsigned pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const unsigned&>(pair);
  }
  static __device__ void store(void* to, float low, float high) {
    *static_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(low, high);
  }
  static __device__ __nv_bfloat16 one(float value) { return __float2bfloat16(value); }
  static __device__ void product(float (&sum)[4],
                                 const unsigned (&a)[4],
                                 unsigned b0,
                                 unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};
template <>
struct Pair<__half> {
  static __device__ unsigned pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const unsigned&>(pair);
  }
  static __device__ void store(void* to, float low, float high) {
    *static_cast<__half2*>(to) = __floats2half2_rn(low, high);
  }
  static __device__ __half one(float value) { return __float2half(value); }
  static __device__ void product(float (&sum)[4],
                                 const unsigned (&a)[4],
                                 unsigned b0,
                                 unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

__device__ inline unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
__device__ inline void load_matrices(unsigned (&out)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}
__device__ inline void load_matrices_transposed(unsigned (&out)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}
__device__ inline void copy_async(unsigned to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from));
}
__device__ inline void copies_committed() { asm volatile("cp.async.commit_group;"); }
template <int N>
__device__ inline void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N));
}

// Zeros instead, where there is nothing to copy.
__device__ inline void copy_async_or_zero(unsigned to, const void* from, bool there) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}

}  // namespace mlxs::engine::cuda
