#pragma once

#include "base/deadline.h"

#include <cstddef>

namespace mlxs::http {

/// Bounds of one server. Each is tested by exceeding it.
struct Limits {
  std::size_t head_bytes_max = 16 * 1024;         ///< Request line and headers: 431 beyond.
  std::size_t head_fields_max = 100;              ///< 431 beyond.
  std::size_t target_bytes_max = 8 * 1024;        ///< 414 beyond (code headers_too_large).
  std::size_t body_bytes_max = 8 * 1024 * 1024;   ///< 413 beyond.
  std::size_t connections_max = 4096;             ///< Accepted and answered 503, then closed.
  std::size_t connections_per_address_max = 256;  ///< Not applied to loopback and unix peers.
  Milliseconds head_read{10'000};                 ///< From the first byte to a complete head: 408.
  Milliseconds body_stall{
      10'000};                ///< Without 1 KiB of body progress a second, averaged over this: 408.
  Milliseconds idle{60'000};  ///< Between requests: closed without an answer.
  Milliseconds write_stall{30'000};  ///< Without write progress: dropped.
  Milliseconds linger{5'000};        ///< After a last answer: how long until the client closes.
  std::size_t linger_bytes = 64 * 1024 * 1024;  ///< And how much of what it still sends is read.
  std::size_t send_buffer_bytes =
      64 * 1024;  ///< Kernel send buffer, so that a slow reader costs little.
};

}  // namespace mlxs::http
