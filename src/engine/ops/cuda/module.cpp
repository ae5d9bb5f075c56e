#include "engine/ops/cuda/module.h"

#include <fmt/format.h>

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

// kernels.cu as nvcc left it, embedded by kernels.S.
extern "C" const unsigned char mlxs_cuda_kernels[];

namespace mlxs::engine::cuda {
namespace {

// libmlx brings the driver along; we ask it by name, so that nothing of CUDA has to be there when
// we link, and our CUDA runtime can't disagree with libmlx's own.
template <class Function>
Function driver(const char* name) {
  void* const found = dlsym(RTLD_DEFAULT, name);
  if (found == nullptr) throw std::runtime_error(fmt::format("[cuda] the driver has no {}", name));
  return reinterpret_cast<Function>(found);
}

void check(CUresult result, std::string_view what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  driver<decltype(&cuGetErrorString)>("cuGetErrorString")(result, &text);
  throw std::runtime_error(
      fmt::format("[cuda] {}: {}", what, text == nullptr ? "unknown error" : text));
}

CUlibrary library() {
  static const CUlibrary loaded = [] {
    CUlibrary made = nullptr;
    check(driver<decltype(&cuLibraryLoadData)>("cuLibraryLoadData")(
              &made, mlxs_cuda_kernels, nullptr, nullptr, 0, nullptr, nullptr, 0),
          "loading our kernels");
    return made;
  }();
  return loaded;
}

CUfunction load(const char* name, unsigned shared_bytes) {
  CUkernel kernel = nullptr;
  check(driver<decltype(&cuLibraryGetKernel)>("cuLibraryGetKernel")(&kernel, library(), name),
        name);
  CUfunction function = nullptr;
  check(driver<decltype(&cuKernelGetFunction)>("cuKernelGetFunction")(&function, kernel), name);
  constexpr unsigned kAlwaysThere = 48 * 1024;
  if (shared_bytes > kAlwaysThere)
    check(driver<decltype(&cuFuncSetAttribute)>("cuFuncSetAttribute")(
              function,
              CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
              static_cast<int>(shared_bytes)),
          name);
  return function;
}

}  // namespace

CUfunction kernel(const mlx::core::Stream& stream, const char* name, unsigned shared_bytes) {
  static std::mutex mutex;
  static std::map<std::pair<int, std::string>, CUfunction> kernels;
  mlx::core::cu::device(stream.device).make_current();
  const std::lock_guard lock{mutex};
  CUfunction& found = kernels[{stream.device.index, name}];
  if (found == nullptr) found = load(name, shared_bytes);
  return found;
}

}  // namespace mlxs::engine::cuda
