#include "engine/ops/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
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
// Between the products of a step a helper waits this long awake, since waking one takes longer
// (some 50 µs) than most pieces of work.
constexpr int kSpins = 2000;

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

/// One call of `parallel_for`. Shared, so that a helper that comes late finds it over, not gone.
struct Job {
  const std::function<void(int)>* work;
  int count;
  std::atomic<int> next{0};
  std::atomic<int> done{0};

  /// Takes pieces until none is left.
  void help() {
    for (int i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      (*work)(i);
      if (done.fetch_add(1) + 1 == count) done.notify_all();
    }
  }
};

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
    const auto job = std::make_shared<Job>();
    job->work = &work;
    job->count = count;
    {
      const std::lock_guard lock(mutex_);
      job_ = job;
      ticket_.fetch_add(1);
    }
    if (sleeping_.load() > 0) wake_.notify_all();
    job->help();
    for (int done = job->done.load(); done < count; done = job->done.load()) {
      job->done.wait(done);
    }
  }

 private:
  void serve() {
    int seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && ticket_.load() == seen; ++i) std::this_thread::yield();
      std::shared_ptr<Job> job;
      {
        std::unique_lock lock(mutex_);
        ++sleeping_;
        wake_.wait(lock, [&] { return ticket_.load() != seen; });
        --sleeping_;
        seen = ticket_.load();
        job = job_;
      }
      job->help();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<int> ticket_{0};  ///< Counts jobs; changed under the mutex.
  std::atomic<int> sleeping_{0};
  std::shared_ptr<Job> job_;
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
