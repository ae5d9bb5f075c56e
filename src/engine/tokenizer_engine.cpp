// Apart from engine.cpp, so that what starts an engine with its own detokenizer links no
// vocabulary.
#include "engine/engine.h"
#include "engine/text/tokenizer.h"

#include <utility>

namespace mlxs::engine {
namespace {

class TokenizerDetokenizer final : public Detokenizer {
 public:
  explicit TokenizerDetokenizer(const Tokenizer& tokenizer) : decoder_{tokenizer} {}
  Result<std::string> push(TokenId id) override { return decoder_.push(id); }
  Result<std::string> finish() override { return decoder_.finish(); }

 private:
  StreamDecoder decoder_;
};

}  // namespace

Result<std::unique_ptr<Engine>> Engine::start(const RunnerFactory& make_runner,
                                              const Tokenizer& tokenizer,
                                              const EngineLimits& limits,
                                              StepSink sink) {
  return start(
      make_runner,
      [&tokenizer]() -> std::unique_ptr<Detokenizer> {
        return std::make_unique<TokenizerDetokenizer>(tokenizer);
      },
      limits,
      std::move(sink));
}

}  // namespace mlxs::engine
