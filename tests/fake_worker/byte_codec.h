#pragma once

#include "worker/codec.h"

#include <memory>

namespace mlxs::fake {

/// Bytes as tokens. With `add_special` a text begins with token 1 (byte 0x01), as if it were a
/// beginning-of-text token. Without a template it has no tokens to fill gaps either (2, 3, 4).
[[nodiscard]] std::unique_ptr<worker::Codec> make_byte_codec(bool has_template);

}  // namespace mlxs::fake
