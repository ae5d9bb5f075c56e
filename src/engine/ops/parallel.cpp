#include "engine/ops/parallel.h"

#include "base/assert.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#ifdef MLXS_OPENBLAS
#include <cblas.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace mlxs::engine {
namespace {

constexpr int kThreadsMax = 64;
// Between the products of a step a helper stays awake, first at once at hand, then leaving its core
// to whoever wants it, since waking one takes longer (some 50 µs) than most pieces of work.
constexpr int kPauses = 200;
constexpr int kYields = 2000;

constexpr std::int64_t kPieceCostMin = 1 << 16;  // Some 20 µs of elementwise arithmetic.
constexpr int kPiecesPerThread = 4;

/// Threads where nobody set a number: as many as OpenBLAS had before we took its own away, which
/// minds the cores this process may run on, OPENBLAS_NUM_THREADS and openblas_set_num_threads.
int default_threads() {
#ifdef MLXS_OPENBLAS
  static const int threads = openblas_get_num_threads();
  return threads;
#elif defined(__linux__)
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
#else
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#endif
}

std::atomic<int>& configured_threads() {
  static std::atomic<int> threads{0};
  return threads;
}

/// Tells the processor that this is a loop which waits.
void pause() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// The pieces of one job at a time, taken by a caller and its helpers without locks. Who takes
/// piece i of n learns both numbers from one word, so that a helper which comes late either finds
/// nothing left or takes part in the job that is on by then.
class Helpers {
 public:
  explicit Helpers(int count) {
#ifdef MLXS_OPENBLAS
    default_threads();  // Looks before the number is gone.
    openblas_set_num_threads(1);
#endif
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { serve(); });
  }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  void run(int count, const std::function<void(int)>& work) {
    MLXS_ASSERT(count <= kPiecesMax);
    work_.store(&work, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    next_.store(static_cast<std::uint64_t>(count) << kCountShift);
    tickets_.fetch_add(1);
    if (sleeping_.load() > 0) tickets_.notify_all();
    while (help()) continue;
    for (int i = 0; i < kPauses && done_.load() < count; ++i) pause();
    for (int done = done_.load(); done < count; done = done_.load()) done_.wait(done);
  }

 private:
  static constexpr int kCountShift = 32;
  static constexpr int kPiecesMax = 1 << 30;

  struct Place {
    std::uint64_t word;
    [[nodiscard]] int count() const { return static_cast<int>(word >> kCountShift); }
    [[nodiscard]] int piece() const { return static_cast<int>(word & 0xffffffffu); }
    [[nodiscard]] bool taken() const { return piece() >= count(); }
  };

  [[nodiscard]] bool idle() const { return Place{next_.load()}.taken(); }

  /// Does a piece; false when none is left. The job stays while one of its pieces is not done, so
  /// `work_` is the one that the piece belongs to.
  bool help() {
    const Place place{next_.fetch_add(1)};
    if (place.taken()) return false;
    (*work_.load(std::memory_order_relaxed))(place.piece());
    if (done_.fetch_add(1) + 1 == place.count()) done_.notify_all();
    return true;
  }

  void serve() {
    for (;;) {
      for (int i = 0; i < kPauses && idle(); ++i) pause();
      for (int i = 0; i < kYields && idle(); ++i) std::this_thread::yield();
      sleeping_.fetch_add(1);
      for (int ticket = tickets_.load(); idle(); ticket = tickets_.load()) tickets_.wait(ticket);
      sleeping_.fetch_sub(1);
      while (help()) continue;
    }
  }

  std::atomic<std::uint64_t> next_{0};  ///< A Place; its piece grows past its count.
  std::atomic<const std::function<void(int)>*> work_{nullptr};
  std::atomic<int> done_{0};
  std::atomic<int> tickets_{0};  ///< Counts jobs: what sleeping helpers watch.
  std::atomic<int> sleeping_{0};
  std::vector<std::thread> threads_;
};

}  // namespace

int compute_threads() {
  const int configured = configured_threads().load();
  return std::min(configured > 0 ? configured : default_threads(), kThreadsMax);
}

void set_compute_threads(int threads) { configured_threads().store(std::max(0, threads)); }

void parallel_for(int count, const std::function<void(int)>& work) {
  // Made on first use and never destroyed: MLX's stream threads outlive whatever could own it.
  static Helpers& helpers = *new Helpers(compute_threads() - 1);
  if (count <= 1) {
    for (int i = 0; i < count; ++i) work(i);
    return;
  }
  helpers.run(count, work);
}

void parallel_rows(int rows, std::int64_t row_cost, const std::function<void(int, int)>& work) {
  const std::int64_t worth = std::max<std::int64_t>(1, rows * row_cost / kPieceCostMin);
  const auto pieces = static_cast<int>(
      std::min({worth, std::int64_t{rows}, std::int64_t{kPiecesPerThread} * compute_threads()}));
  if (pieces <= 1) {
    work(0, rows);
    return;
  }
  parallel_for(pieces, [&](int i) {
    const auto edge = [&](int piece) {
      return static_cast<int>(std::int64_t{rows} * piece / pieces);
    };
    work(edge(i), edge(i + 1));
  });
}

}  // namespace mlxs::engine
