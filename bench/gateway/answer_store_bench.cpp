// answer_store_bench: what looking up, missing and replacing kept answers costs in the process,
// with one to many threads that share the one store (R-CACHE-3). One line of JSON a run.

#include "gateway/cache/answer_store.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::gateway {
namespace {

using namespace std::chrono_literals;

struct Options {
  std::size_t entries = 10'000;
  std::size_t request_bytes = 4096;
  std::size_t answer_bytes = 4096;
  std::size_t threads_max = 4;
  int operations = 300'000;  // a thread
};

class Blob : public StoredAnswer {
 public:
  explicit Blob(std::size_t bytes) : text_(bytes, 'a') {}
  [[nodiscard]] std::size_t bytes() const override { return text_.size(); }

 private:
  std::string text_;
};

FingerprintPtr request(std::size_t number, std::size_t bytes) {
  auto fingerprint = std::make_shared<Fingerprint>();
  fingerprint->canonical = fmt::format("{:020}", number) + std::string(bytes, 'r');
  fingerprint->digest = sha256(fingerprint->canonical);
  fingerprint->model = "model";
  return fingerprint;
}

KeptAnswer answer(const FingerprintPtr& fingerprint, const Options& options, TimePoint now) {
  return {.fingerprint = fingerprint,
          .answer = std::make_shared<Blob>(options.answer_bytes),
          .completed = now,
          .dedup_ttl = 1s,
          .prompt_cache_ttl = 300s};
}

// `work(random number)` in each thread; times are of single calls.
template <class Work>
void run(const std::string& name, std::size_t threads, const Options& options, const Work& work) {
  std::vector<std::vector<std::int64_t>> times(threads);
  std::atomic<std::size_t> ready{0};
  const auto loop = [&](std::size_t thread) {
    std::uint64_t random = thread + 1;
    auto& mine = times[thread];
    mine.reserve(static_cast<std::size_t>(options.operations));
    ++ready;
    while (ready < threads) std::this_thread::yield();
    for (int i = 0; i < options.operations; ++i) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      const TimePoint began = Clock::now();
      work(static_cast<std::size_t>(random >> 33U));
      mine.push_back((Clock::now() - began).count());
    }
  };
  const TimePoint began = Clock::now();
  std::vector<std::thread> all;
  for (std::size_t i = 0; i < threads; ++i) all.emplace_back(loop, i);
  for (std::thread& one : all) one.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
  std::vector<std::int64_t> sorted;
  for (const auto& some : times) sorted.insert(sorted.end(), some.begin(), some.end());
  std::ranges::sort(sorted);
  const auto at = [&](double share) {
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  fmt::print(
      R"({{"operation":"{}","threads":{},"per_s":{:.0f},"p50_ns":{},"p99_ns":{},"p999_ns":{}}})"
      "\n",
      name,
      threads,
      static_cast<double>(sorted.size()) / seconds,
      at(.5),
      at(.99),
      at(.999));
}

void measure(const Options& options) {
  const TimePoint now{1h};
  const Epochs epochs{EpochState{}};
  std::vector<FingerprintPtr> known;
  std::vector<FingerprintPtr> unknown;
  for (std::size_t i = 0; i < options.entries; ++i) {
    known.push_back(request(i, options.request_bytes));
    unknown.push_back(request(options.entries + i, options.request_bytes));
  }
  for (std::size_t threads = 1; threads <= options.threads_max; threads *= 2) {
    AnswerStore store{epochs, {.entries_max = options.entries, .bytes_max = std::size_t{4} << 30U}};
    for (const FingerprintPtr& fingerprint : known)
      store.insert(answer(fingerprint, options, now), now);
    run("hit", threads, options, [&](std::size_t random) {
      (void)store.find(*known[random % known.size()], {}, now);
    });
    run("miss", threads, options, [&](std::size_t random) {
      (void)store.find(*unknown[random % unknown.size()], {}, now);
    });
    run("insert", threads, options, [&](std::size_t random) {
      const auto& from = random % 2 == 0 ? known : unknown;
      store.insert(answer(from[random / 2 % from.size()], options, now), now);
    });
  }
}

}  // namespace
}  // namespace mlxs::gateway

int main(int argc, char** argv) {
  mlxs::gateway::Options options;
  CLI::App app{"The store of kept answers", "answer_store_bench"};
  app.add_option("--entries", options.entries, "Kept at once");
  app.add_option("--request-bytes", options.request_bytes, "Canonical form of a request");
  app.add_option("--answer-bytes", options.answer_bytes, "Of each answer");
  app.add_option("--threads", options.threads_max, "Up to this many, doubling");
  app.add_option("--operations", options.operations, "Of each thread");
  CLI11_PARSE(app, argc, argv);
  mlxs::gateway::measure(options);
  return 0;
}
