#include "telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Counter, ShowsItsValueUnderItsHelpAndType) {
  Registry registry;

  registry.counter("mlx_things_total", "Things seen.").add(3);

  EXPECT_EQ(registry.expose(),
            "# HELP mlx_things_total Things seen.\n"
            "# TYPE mlx_things_total counter\n"
            "mlx_things_total 3\n");
}

TEST(Gauge, GoesUpAndDownAndShowsTheShortestNumber) {
  Registry registry;
  Gauge& gauge = registry.gauge("mlx_depth", "Depth.");

  gauge.set(0.1);
  gauge.add(2);
  gauge.add(-1);

  EXPECT_THAT(registry.expose(), HasSubstr("\nmlx_depth 1.1\n"));
}

TEST(Gauge, SpellsInfinityAndNanAsPrometheusDoes) {
  Registry registry;
  registry.gauge("a", "A.").set(std::numeric_limits<double>::infinity());
  registry.gauge("b", "B.").set(-std::numeric_limits<double>::infinity());
  registry.gauge("c", "C.").set(std::numeric_limits<double>::quiet_NaN());

  const std::string text = registry.expose();

  EXPECT_THAT(text, HasSubstr("\na +Inf\n"));
  EXPECT_THAT(text, HasSubstr("\nb -Inf\n"));
  EXPECT_THAT(text, HasSubstr("\nc NaN\n"));
}

TEST(Histogram, ShowsCumulativeBucketsWithTheirBoundsIncluded) {
  Registry registry;
  Histogram& histogram = registry.histogram("mlx_wait_seconds", "Wait.", {0.1, 1}, {{"m", "x"}});

  for (const double value : {0.05, 0.1, 0.5, 7.0}) histogram.observe(value);

  EXPECT_THAT(registry.expose(),
              HasSubstr("# TYPE mlx_wait_seconds histogram\n"
                        "mlx_wait_seconds_bucket{m=\"x\",le=\"0.1\"} 2\n"
                        "mlx_wait_seconds_bucket{m=\"x\",le=\"1\"} 3\n"
                        "mlx_wait_seconds_bucket{m=\"x\",le=\"+Inf\"} 4\n"
                        "mlx_wait_seconds_sum{m=\"x\"} 7.65\n"
                        "mlx_wait_seconds_count{m=\"x\"} 4\n"));
}

TEST(Registry, EscapesHelpAndLabelValues) {
  Registry registry;

  registry.counter("x_total", "one\ntwo \\ \"q\"", {{"l", "a\"b\\c\nd"}}).add();

  EXPECT_EQ(registry.expose(),
            "# HELP x_total one\\ntwo \\\\ \"q\"\n"
            "# TYPE x_total counter\n"
            "x_total{l=\"a\\\"b\\\\c\\nd\"} 1\n");
}

TEST(Registry, GivesTheSameObjectForTheSameLabelsInAnyOrder) {
  Registry registry;

  Counter& first = registry.counter("x_total", "X.", {{"a", "1"}, {"b", "2"}});
  Counter& second = registry.counter("x_total", "X.", {{"b", "2"}, {"a", "1"}});

  EXPECT_EQ(&first, &second);
}

TEST(Registry, ExposesInTheSameOrderWhateverTheOrderOfCreation) {
  Registry forwards;
  Registry backwards;
  const std::vector<std::string> names{"a_total", "b_total", "c_total"};

  for (const auto& name : names) forwards.counter(name, "H.", {{"l", name}});
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    backwards.counter(*name, "H.", {{"l", *name}});
  }

  EXPECT_EQ(forwards.expose(), backwards.expose());
}

TEST(Registry, SharesOneSeriesNamedOtherBeyondTheCap) {
  Registry registry;
  const auto with = [&](const std::string& value) -> Counter& {
    return registry.counter("x_total", "X.", {{"tenant", value}});
  };
  for (std::size_t i = 0; i < Registry::kSeriesMax; ++i) with(std::to_string(i)).add();

  with("one too many").add(5);
  with("and another").add(6);
  with("0").add(1);

  const std::string text = registry.expose();
  EXPECT_THAT(text, HasSubstr("x_total{tenant=\"other\"} 11\n"));
  EXPECT_THAT(text, HasSubstr("x_total{tenant=\"0\"} 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("too many")));
}

TEST(Registry, RunsCollectorsBeforeEachExposition) {
  Registry registry;
  int runs = 0;
  registry.on_collect([&] { registry.gauge("runs", "Runs.").set(++runs); });

  EXPECT_THAT(registry.expose(), HasSubstr("\nruns 1\n"));
  EXPECT_THAT(registry.expose(), HasSubstr("\nruns 2\n"));
}

TEST(RegistryDeathTest, RefusesAnotherTypeOrHelpUnderTheSameName) {
  Registry registry;
  registry.gauge("x", "X.");

  EXPECT_DEATH(registry.histogram("x", "X.", {1}), "type");
  EXPECT_DEATH(registry.gauge("x", "Y."), "help");
  EXPECT_DEATH(registry.counter("y", "Y."), "_total");
}

TEST(Registry, LosesNothingAcrossThreads) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 5000;
  Registry registry;

  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&registry, t] {
      for (int i = 0; i < kRounds; ++i) {
        registry.counter("n_total", "N.").add();
        registry.gauge("g", "G.").add(1);
        registry.histogram("h", "H.", {1}, {{"t", std::to_string(t)}}).observe(2);
        if (i % 1000 == 0) {
          EXPECT_FALSE(registry.expose().empty());
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();

  EXPECT_EQ(registry.counter("n_total", "N.").value(), kThreads * kRounds);
  EXPECT_EQ(registry.gauge("g", "G.").value(), kThreads * kRounds);
  EXPECT_EQ(registry.histogram("h", "H.", {1}, {{"t", "0"}}).counts().back(), kRounds);
}

TEST(Registry, IsAcceptedByPromtool) {
  Registry registry;
  registry.counter("mlx_cache_requests_total", "Requests.", {{"layer", "a\"b\\c\nd"}}).add(3);
  registry.gauge("mlx_queue_depth", "Depth \\ of\nthe queue.").set(1e300);
  registry.histogram("mlx_step_seconds", "Steps.", {0.001, 0.5, 2}, {{"model", "m"}}).observe(0.7);
  const auto file = std::filesystem::temp_directory_path() /
                    ("mlxs_metrics_" + std::to_string(::getpid()) + ".txt");
  std::ofstream{file} << registry.expose();

  const int status = std::system(("promtool check metrics < '" + file.string() + "' >&2").c_str());

  EXPECT_EQ(status, 0) << "promtool comes with the package prometheus";
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace mlxs::telemetry
