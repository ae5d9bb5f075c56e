#pragma once

#include "api/request.h"
#include "base/result.h"
#include "gateway/settings.h"
#include "gateway/stages/deadline.h"
#include "http/message.h"

#include <boost/json/object.hpp>

#include <string>
#include <string_view>

namespace mlxs::gateway {

/// A generation request that was read and is sound.
struct Call {
  const config::Model* model = nullptr;  ///< In the settings.
  boost::json::object body;
  bool stream = false;
  bool include_usage = false;
  bool want_token_ids = false;
  Patience patience;
};

/// Media type, body, deadline and model of a request, in that order; everything that a native model
/// cannot honour is refused here, before any worker is touched. To foreign models every field
/// passes unchanged.
[[nodiscard]] Result<Call> read_call(const Settings& settings,
                                     api::Surface surface,
                                     const http::Request& request);

/// kModelNotFound naming `id` and what is configured.
[[nodiscard]] Result<const config::Model*> find_model(const Settings& settings,
                                                      std::string_view id);
/// An entry of /v1/models.
[[nodiscard]] boost::json::object model_object(const config::Model& model, std::int64_t created);

/// `text` with %XX decoded; malformed escapes stay as they are.
[[nodiscard]] std::string percent_decoded(std::string_view text);

}  // namespace mlxs::gateway
