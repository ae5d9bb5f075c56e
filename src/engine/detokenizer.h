#pragma once

#include "base/result.h"
#include "engine/types.h"

#include <functional>
#include <memory>
#include <string>

namespace mlxs::engine {

/// Ids of one sequence in, text out, as `StreamDecoder` does it: every piece is valid UTF-8 and no
/// character is split. The seam that lets the engine run without a real vocabulary. One thread.
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;
  [[nodiscard]] virtual Result<std::string> push(TokenId id) = 0;
  /// What is still withheld.
  [[nodiscard]] virtual Result<std::string> finish() = 0;
};

/// Called once a sequence, on the engine thread.
using DetokenizerFactory = std::function<std::unique_ptr<Detokenizer>()>;

}  // namespace mlxs::engine
