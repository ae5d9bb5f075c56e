#pragma once

#include "gateway/fleet/endpoint.h"
#include "gateway/tuning.h"

#include <boost/asio/io_context.hpp>

#include <functional>
#include <memory>
#include <string>

namespace mlxs::gateway {

/// Asks a foreign worker for its models again and again, never for a generation. Any answer below
/// 500 means that a server is there (404: it doesn't list models). Control thread; the callback
/// comes from the loop, with "" or why the probe failed, and not after destruction.
class Probe {
 public:
  Probe(boost::asio::io_context& io,
        Endpoint endpoint,
        const Tuning& tuning,
        std::function<void(const std::string& failure)> on_result);
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mlxs::gateway
