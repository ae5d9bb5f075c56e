#include "worker/threads.h"

#include <dlfcn.h>

namespace mlxs::worker {

void limit_threads(int threads) {
  if (threads == 0) return;
  // Looked up by name, so that this links the same with and without OpenBLAS.
  using SetThreads = void (*)(int);
  void* const found = ::dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  if (found != nullptr) reinterpret_cast<SetThreads>(found)(threads);
}

}  // namespace mlxs::worker
