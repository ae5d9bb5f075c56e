#pragma once

#include "engine/engine.h"

#include <boost/json/object.hpp>

#include <string>

namespace mlxs::bench {

/// Sizes of a scenario; mlx_lm_run.py takes the same and asks with the same token ids.
struct ScenarioOptions {
  std::string source;
  int rows = 8;             ///< That decode.
  int prompt_tokens = 128;  ///< Of each of them.
  int answer_tokens = 64;
  int long_tokens = 4096;       ///< The long prompt of `joins` and `behind`.
  int short_prompts = 100;      ///< Of `behind`.
  int latency_budget_ms = 120;  ///< Ceiling of a step that decodes, as the worker's; 0: none.
  int step_tokens = 0;          ///< Budget of a step; 0: the engine's default.
};

/// `rows` sequences decode: tokens per second and step times while all of them do.
[[nodiscard]] boost::json::object decode(const ScenarioOptions& options);
/// One prompt of `prompt_tokens` after another: its tokens over the time to the first one drawn.
[[nodiscard]] boost::json::object prefill(const ScenarioOptions& options);
/// R-ENG-5: a long prompt joins decoding rows. What the rows feel, what the prompt waits, and how
/// far both are from their ceilings: the latency budget (4/3 of a step of the rows alone where that
/// is more), and four times what prefilling everything that is queued takes alone.
[[nodiscard]] boost::json::object joins(const ScenarioOptions& options);
/// R-ENG-5: short prompts right behind a long one. When each gets its first token, and the ceiling.
[[nodiscard]] boost::json::object behind(const ScenarioOptions& options);

}  // namespace mlxs::bench
