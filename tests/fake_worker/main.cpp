// mlxs-fake-worker: the worker with a model that is none. The command line of the real one, so that
// it can stand in for it, and knobs for the ways in which a worker can misbehave.

#include "tests/fake_worker/fake_model.h"
#include "worker/app.h"
#include "worker/options.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <utility>

int main(int argc, char** argv) {
  using mlxs::Milliseconds;
  CLI::App command_line{"A worker whose model is a deterministic stand-in", "mlxs-fake-worker"};
  mlxs::worker::Options options;
  mlxs::fake::ModelKnobs knobs;
  std::int64_t step_ms = 0;
  std::int64_t load_ms = 0;
  mlxs::worker::add_options(command_line, options);
  command_line.add_option("--fake-step-ms", step_ms, "Time a step takes at least");
  command_line.add_option("--fake-load-ms", load_ms, "Time a load takes");
  command_line.add_option("--fake-load-error", knobs.load_error, "Fail to load with this message");
  command_line.add_flag("--fake-endless", knobs.endless, "Answers end by their limit only");
  command_line.add_option("--fake-blocks", knobs.blocks_total, "Blocks in the pool");
  command_line.add_option("--fake-crash-at-step", knobs.crash_at_step, "Abort at this step");
  command_line.add_option("--fake-hang-at-step", knobs.hang_at_step, "Never end this step");
  command_line.add_option("--fake-fail-from-step", knobs.fail_from_step, "Fail from this step on");
  CLI11_PARSE(command_line, argc, argv);
  if (auto checked = mlxs::worker::complete(options); !checked) {
    std::fprintf(stderr, "%s\n", checked.error().message.c_str());
    return 2;
  }
  knobs.step = Milliseconds{step_ms};
  knobs.load = Milliseconds{load_ms};
  knobs.context_tokens_max = options.context_tokens_max.value_or(knobs.context_tokens_max);
  return mlxs::worker::run_worker(options, mlxs::fake::model_loader(std::move(knobs)));
}
