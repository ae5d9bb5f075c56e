// mlxs-load: asks an OpenAI-compatible server for generations and prints, as one JSON object, what
// came back how fast. bench/README.md has examples.

#include "base/descriptors.h"
#include "bench/load/load.h"

#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace mlxs;

bool split(const std::string& text, char at, std::string& before, std::string& after) {
  const std::size_t found = text.find(at);
  if (found == std::string::npos) return false;
  before = text.substr(0, found);
  after = text.substr(text.find_first_not_of(' ', found + 1));
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  allow_many_descriptors();
  CLI::App app{"Load for an OpenAI-compatible server", "mlxs-load"};
  bench::LoadOptions options;
  std::string server = "127.0.0.1:8080";
  std::vector<std::string> headers;
  std::vector<std::string> watch;
  bool whole = false;
  bool completions = false;
  bool show = false;
  bench::PlanOptions& plan = options.plan;
  app.add_option("--server", server, "HOST:PORT or unix:PATH");
  app.add_option("--model", plan.model, "Its name in requests");
  app.add_flag("--completions", completions, "/v1/completions instead of chat");
  app.add_flag("--whole", whole, "Answers in one piece instead of streams");
  app.add_option("--users", options.users, "Closed loop: each has one request under way")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--rate", options.rate, "Open loop instead: requests a second");
  app.add_option("--requests", options.requests, "End after so many");
  app.add_option("--seconds", options.seconds, "End so long after the warm-up");
  app.add_option("--warmup", options.warmup, "Seconds that do not count");
  app.add_option("--timeout", options.timeout, "Seconds without a byte until it failed");
  app.add_option("--duplicates", plan.duplicates, "Share of repeated prompts")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repeat-window", plan.repeat_window, "Repeat among so many last; 0: all");
  app.add_option("--prompt-words", plan.prompt_words, "A token each, about");
  app.add_option("--answer-tokens", plan.answer_tokens, "max_tokens");
  app.add_option("--temperature", plan.temperature, "0: greedy");
  app.add_option("--seed", plan.seed, "Of prompts and their order");
  app.add_option("--extra", plan.extra, "More members of the body: ',\"ignore_eos\":true'");
  app.add_option("--check", options.check, "What an answer must be")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, bench::Check>{{"none", bench::Check::kNone},
                                              {"echo", bench::Check::kEcho},
                                              {"equal", bench::Check::kEqual}}));
  app.add_option("--answers", options.answers, "With equal: also those in this file, or make it");
  app.add_flag("--mixed", plan.mixed, "All kinds of requests, and clients that leave");
  app.add_option("--header", headers, "'name: value', repeatable");
  app.add_option("--watch", watch, "NAME=PID: processor time and memory of a process, repeatable");
  app.add_flag("--show", show, "Print the body of the first request and ask nothing");
  CLI11_PARSE(app, argc, argv);

  plan.stream = !whole;
  plan.chat = !completions;
  plan.marked = options.check == bench::Check::kEcho;
  if (show) return fmt::print("{}\n", bench::Plan{plan}.body(0)), 0;
  auto address = http::Address::parse(server);
  if (!address) return fmt::print(stderr, "{}\n", address.error().message), 2;
  options.server = *address;
  std::string name;
  std::string value;
  for (const std::string& header : headers) {
    if (!split(header, ':', name, value))
      return fmt::print(stderr, "Expected 'name: value', got '{}'.\n", header), 2;
    options.headers.add(name, value);
  }
  for (const std::string& process : watch) {
    if (!split(process, '=', name, value))
      return fmt::print(stderr, "Expected NAME=PID, got '{}'.\n", process), 2;
    options.watch.push_back({name, static_cast<pid_t>(std::stol(value))});
  }
  if (options.requests == 0 && options.seconds <= 0)
    return fmt::print(stderr, "Expected --requests or --seconds.\n"), 2;

  bench::Load load{std::move(options)};
  fmt::print("{}\n", boost::json::serialize(load.run()));
  return 0;
}
