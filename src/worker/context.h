#pragma once

#include "worker/change_signal.h"
#include "worker/generation.h"
#include "worker/metrics.h"
#include "worker/model.h"
#include "worker/options.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace mlxs::worker {

/// What the handlers of one worker share. Loop thread; outlives every handler.
struct Context {
  Context(const Options& options_in, boost::asio::io_context& loop, ModelLoader loader);

  const Options& options;
  const std::int64_t started_at;  ///< Unix seconds; `created` of the model.
  Metrics metrics;
  Generations generations;
  Model model;
  ChangeSignal changed;  ///< Anything that /internal/state shows.
  /// Where long texts are rendered and tokenized, so that streams under way do not wait for them.
  boost::asio::thread_pool text_pool{1};
  bool draining = false;  ///< New work is refused.
  bool stopping = false;  ///< State streams end.
  int state_streams = 0;
  int preparing = 0;                                     ///< Requests being parsed and tokenized.
  std::set<std::string, std::less<>> undocumented_seen;  ///< Fields logged already.
  /// DRY's breaker tokens by the strings that name them; see sampling.cpp for the bound.
  std::map<std::vector<std::string>, std::shared_ptr<const std::vector<engine::TokenId>>>
      dry_breakers;
};

}  // namespace mlxs::worker
