#pragma once

namespace mlxs::worker {

/// Bounds the threads that linear algebra uses. Without effect where the library in use has no such
/// switch (Accelerate) and for 0, which leaves the choice to it. Before the model loads.
void limit_threads(int threads);

}  // namespace mlxs::worker
