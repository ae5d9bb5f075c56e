#pragma once

#include "base/result.h"
#include "config/config.h"
#include "gateway/cache/features.h"
#include "http/message.h"

#include <boost/json/object.hpp>

#include <string_view>

namespace mlxs::gateway {

/// What a request itself says about sharing its answer.
enum class CacheControl {
  kUse,
  kNoStore,  ///< May be answered by others' answers; its own is not kept for it.
  kRefresh,  ///< A new generation, which others may join and which is kept.
  kBypass,   ///< A private flight: nothing is read, nothing joined, nothing kept.
};

/// From `x-mlx-cache: bypass|no-store|refresh`, else `mlxs.cache` in the body with the same words,
/// else `Cache-Control`, where no-store and no-cache (refresh) count and other directives don't.
/// kInvalidRequest naming the first two if they hold another word.
[[nodiscard]] Result<CacheControl> read_cache_control(const http::Request& request,
                                                      const boost::json::object& body);

/// Whether the request fixes its answer: temperature 0, or for native models a seed. (What a
/// foreign server makes of a seed is its own affair.)
[[nodiscard]] bool is_deterministic(const boost::json::object& body, bool native);

/// What sharing is open to one request, in the order in which it is tried.
struct SharingRules {
  bool coalescing = false;     ///< The layer is on for this request.
  bool dedup = false;          ///<
  bool prompt_cache = false;   ///<
  bool join = false;           ///< May take part in another's flight.
  bool read = false;           ///< May be served kept answers of the layers that are on.
  bool keep = false;           ///< Its answer may be kept for the layers that are on.
  bool deterministic = false;  ///< The request fixes its answer.

  [[nodiscard]] bool any() const { return coalescing || dedup || prompt_cache; }
};

/// By the features' switches, the model's policies (`deterministic`: the request is), the policy of
/// the caller's key, of which the stricter one counts, and the request's own word.
[[nodiscard]] SharingRules sharing_rules(const config::Model& model,
                                         config::SharePolicy of_key,
                                         const Features& features,
                                         bool deterministic,
                                         CacheControl control);

}  // namespace mlxs::gateway
