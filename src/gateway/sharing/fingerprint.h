#pragma once

#include "api/events.h"
#include "base/hash.h"

#include <boost/json/object.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Everything besides the request's body that decides its answer.
struct FingerprintScope {
  std::string_view tenant;      ///< Name of the API key; "" where none are configured.
  std::string_view model;       ///< Our id.
  std::string_view generation;  ///< What exactly serves the model: see ModelWorkers::generation.
  api::Surface surface = api::Surface::kChat;
  bool native = true;
};

/// Equal for two requests exactly when one's answer may serve the other: a SHA-256 over the
/// canonical form of the scope and of the body (api/canonical.h). The canonical bytes are kept and
/// compared in full wherever a digest matches, so that not even a forged collision can hand one
/// request's answer to another. Immutable; any thread.
struct Fingerprint {
  /// First in the canonical form. Raised when the form changes, so that kept answers are not found
  /// by a newer version that reads requests otherwise.
  static constexpr std::string_view kVersion = "1";

  Sha256 digest{};
  std::string canonical;
  std::string tenant;  ///< Of the scope, for flushing by tenant and by model.
  std::string model;

  [[nodiscard]] bool operator==(const Fingerprint& other) const {
    return digest == other.digest && canonical == other.canonical;
  }
  /// About what it takes in memory.
  [[nodiscard]] std::size_t bytes() const {
    return sizeof(Fingerprint) + canonical.capacity() + tenant.capacity() + model.capacity();
  }
};
using FingerprintPtr = std::shared_ptr<const Fingerprint>;

[[nodiscard]] FingerprintPtr make_fingerprint(const FingerprintScope& scope,
                                              const boost::json::object& body);

/// For hash tables keyed by digest, whose every byte is as good as random.
struct DigestHash {
  std::size_t operator()(const Sha256& digest) const {
    std::size_t hash = 0;
    std::memcpy(&hash, digest.data(), sizeof(hash));
    return hash;
  }
};

}  // namespace mlxs::gateway
