#pragma once

#include "gateway/tuning.h"
#include "http/address.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>

#include <functional>
#include <memory>
#include <string>

namespace mlxs::gateway {

/// Keeps one `GET /internal/state` open to a native worker and opens it again when it breaks.
/// Control thread. Callbacks come from the loop, never from inside a call, and not after
/// destruction.
class StateStream {
 public:
  struct Callbacks {
    std::function<void(const boost::json::object& state)> on_state;
    /// The stream ended or could not be opened; `opened` if it had been.
    std::function<void(bool opened, const std::string& why)> on_lost;
  };
  StateStream(boost::asio::io_context& io,
              http::Address address,
              const Tuning& tuning,
              Callbacks callbacks);
  ~StateStream();
  StateStream(const StateStream&) = delete;
  StateStream& operator=(const StateStream&) = delete;

  /// Drops the connection, if any, and connects anew: another process is behind the address.
  void reopen();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mlxs::gateway
