#pragma once

#include "base/result.h"
#include "engine/detokenizer.h"
#include "engine/runner.h"
#include "engine/types.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::worker {

/// The text side of a model: tokenizer and chat template behind one seam, so that the worker runs
/// in tests without either. Immutable; any thread.
class Codec {
 public:
  using TokenIds = std::vector<engine::TokenId>;

  virtual ~Codec() = default;
  /// See engine::Tokenizer.
  [[nodiscard]] virtual Result<TokenIds> encode(std::string_view text, bool add_special) const = 0;
  [[nodiscard]] virtual Result<std::string> decode(std::span<const engine::TokenId> ids) const = 0;
  /// See engine::Tokenizer.
  [[nodiscard]] virtual std::string token_bytes(engine::TokenId id) const = 0;
  /// The prompt of a chat; see engine::ChatTemplate. kInvalidRequest (param "messages") when the
  /// model has no template or the template refuses the messages.
  [[nodiscard]] virtual Result<std::string> render_chat(std::string_view messages_json,
                                                        std::string_view tools_json,
                                                        std::string_view arguments_json) const = 0;
  /// The tokens that mark a text with a gap to be filled; nothing when the model was not made for
  /// that.
  struct FillTokens {
    engine::TokenId prefix = 0;  ///< What comes before the gap follows.
    engine::TokenId suffix = 0;  ///< What comes after it follows.
    engine::TokenId middle = 0;  ///< The answer follows.
  };
  [[nodiscard]] virtual std::optional<FillTokens> fill_tokens() const = 0;
  [[nodiscard]] virtual std::unique_ptr<engine::Detokenizer> detokenizer() const = 0;
  [[nodiscard]] virtual std::string tokenizer_digest() const = 0;
  [[nodiscard]] virtual std::string template_digest() const = 0;  ///< Empty if there is none.
};

/// Fraction of a load that is done, in [0, 1]. Any thread.
using LoadProgress = std::function<void(double)>;

/// How much of a model has come from a hub.
struct FetchProgress {
  std::uint64_t bytes = 0;
  std::uint64_t bytes_total = 0;  ///< 0 until it is known.
};

/// How a worker gets its model. Called once each, in this order, on threads of the worker's choice.
struct ModelLoader {
  /// Brings the model to this machine if it is not there; empty: it is. kUnavailable when another
  /// process may succeed later.
  std::function<Result<void>(const std::function<void(FetchProgress)>&)> fetch = {};
  std::function<Result<std::unique_ptr<Codec>>()> load_codec;
  /// On the thread that becomes the engine's.
  std::function<Result<std::unique_ptr<engine::Runner>>(const LoadProgress&)> load_runner;
};

}  // namespace mlxs::worker
