#include "engine/stop_matcher.h"

#include "base/assert.h"

#include <algorithm>
#include <utility>

namespace mlxs::engine {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    std::vector<std::size_t> borders(text.size() + 1, 0);
    for (std::size_t n = 2; n <= text.size(); ++n) {
      std::size_t border = borders[n - 1];
      while (border > 0 && text[border] != text[n - 1]) border = borders[border];
      borders[n] = text[border] == text[n - 1] ? border + 1 : 0;
    }
    stops_.push_back({.text = std::move(text), .borders = std::move(borders)});
  }
}

std::string StopMatcher::push(std::string_view piece) {
  MLXS_ASSERT(!stopped_);
  if (stops_.empty()) return std::string{piece};
  const std::size_t seen = held_.size();
  held_ += piece;
  for (std::size_t at = seen; at < held_.size(); ++at) {
    std::size_t complete = 0;  // length of the longest stop string that ends here
    for (Stop& stop : stops_) {
      while (stop.matched > 0 && stop.text[stop.matched] != held_[at])
        stop.matched = stop.borders[stop.matched];
      if (stop.text[stop.matched] == held_[at]) ++stop.matched;
      if (stop.matched == stop.text.size()) complete = std::max(complete, stop.matched);
    }
    if (complete == 0) continue;
    stopped_ = true;
    held_.resize(at + 1 - complete);
    return std::exchange(held_, {});
  }
  std::size_t withheld = 0;
  for (const Stop& stop : stops_) withheld = std::max(withheld, stop.matched);
  std::string out = held_.substr(0, held_.size() - withheld);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::finish() {
  MLXS_ASSERT(!stopped_);
  return std::exchange(held_, {});
}

}  // namespace mlxs::engine
