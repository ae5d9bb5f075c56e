// engine_bench: the engine without server and sockets, on any checkpoint. One scenario a run, its
// figures as one JSON object; compare.py runs it in turn with mlx-lm.

#include "bench/engine/scenarios.h"

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <map>
#include <string>

int main(int argc, char** argv) {
  using namespace mlxs::bench;
  using Scenario = boost::json::object (*)(const ScenarioOptions&);
  const std::map<std::string, Scenario> scenarios{
      {"decode", &decode}, {"prefill", &prefill}, {"joins", &joins}, {"behind", &behind}};
  CLI::App app{"The engine alone", "engine_bench"};
  ScenarioOptions options;
  std::string scenario;
  app.add_option("scenario", scenario, "decode, prefill, joins or behind")
      ->required()
      ->check(CLI::IsMember(scenarios));
  app.add_option("model", options.source, "A GGUF file or a folder")->required();
  app.add_option("--rows", options.rows, "That decode");
  app.add_option("--prompt-tokens", options.prompt_tokens, "Of each");
  app.add_option("--answer-tokens", options.answer_tokens, "Of each");
  app.add_option("--long-tokens", options.long_tokens, "Of the long prompt");
  app.add_option("--short-prompts", options.short_prompts, "Behind the long one");
  app.add_option("--latency-budget-ms", options.latency_budget_ms, "Of a decoding step; 0: none");
  app.add_option("--step-tokens", options.step_tokens, "Budget of a step; 0: the default");
  CLI11_PARSE(app, argc, argv);
  fmt::print("{}\n", boost::json::serialize(scenarios.at(scenario)(options)));
  return 0;
}
