// mlx-serving-worker: one engine with one model behind the OpenAI API.

#include "base/descriptors.h"
#include "engine/ops/parallel.h"
#include "worker/app.h"
#include "worker/native_model.h"
#include "worker/options.h"

#include <CLI/CLI.hpp>

#include <cstdio>

int main(int argc, char** argv) {
  CLI::App command_line{"Serves one model through the OpenAI API", "mlx-serving-worker"};
  mlxs::worker::Options options;
  mlxs::worker::add_options(command_line, options);
  CLI11_PARSE(command_line, argc, argv);
  if (auto checked = mlxs::worker::complete(options); !checked) {
    std::fprintf(stderr, "%s\n", checked.error().message.c_str());
    return 2;
  }
  mlxs::allow_many_descriptors();
  mlxs::engine::set_compute_threads(options.threads);
  return mlxs::worker::run_worker(options, mlxs::worker::native_model(options));
}
