#pragma once

#include <cstdint>
#include <functional>

namespace mlxs::engine {

/// How many threads `parallel_for` uses, the caller included: what `set_compute_threads` said, else
/// as many as OpenBLAS would have used by itself.
[[nodiscard]] int compute_threads();

/// Sets it for the process; 0: unset. Helpers are started by the first computation, so that later
/// changes only cut work into more or fewer pieces.
void set_compute_threads(int threads);

/// Calls `work(i)` for every i in [0, count), on the caller's and a few helper threads, and returns
/// when all are done. One caller at a time (MLX's CPU stream thread). `work` must not throw.
///
/// Pieces are taken one by one by whoever is free, and nobody waits by spinning for a helper that
/// the kernel has not scheduled: on a machine with other work the caller simply does more of the
/// pieces. OpenBLAS's own threads split work evenly and spin at every product, which on two cores
/// with other processes cost five times the time of one thread (measured, decoding at 1 row: 450 ms
/// a step against 90).
void parallel_for(int count, const std::function<void(int)>& work);

/// Calls `work(first, last)` for ranges that cover [0, rows), in parallel where it pays. `row_cost`
/// is about how many elements a row has to compute.
void parallel_rows(int rows, std::int64_t row_cost, const std::function<void(int, int)>& work);

}  // namespace mlxs::engine
