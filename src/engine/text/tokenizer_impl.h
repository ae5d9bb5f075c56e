#pragma once

#include "engine/text/tokenizer.h"

#include <mlxs_text.h>

#include <memory>
#include <string>

namespace mlxs::engine {

struct Tokenizer::Impl {
  struct Free {
    void operator()(mlxs_text_tokenizer* tokenizer) const { mlxs_text_tokenizer_free(tokenizer); }
  };

  /// Takes `handle` over and computes its digest.
  static Result<std::unique_ptr<Impl>> own(mlxs_text_tokenizer* handle);

  std::unique_ptr<mlxs_text_tokenizer, Free> handle;
  std::string digest;
};

}  // namespace mlxs::engine
