#include "gateway/stages/model.h"

#include "gateway/stages/guard.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

namespace mlxs::gateway {

Result<Call> read_call(const Settings& settings,
                       api::Surface surface,
                       const http::Request& request) {
  MLXS_TRY(check_content_type(request));
  auto envelope = api::parse_envelope(surface, request.body, settings.config.limits.json_depth);
  if (!envelope) return envelope.error();
  auto patience = read_patience(request, envelope->stream);
  if (!patience) return patience.error();
  auto model = find_model(settings, envelope->model);
  if (!model) return model.error();
  Call call;
  if ((*model)->native()) {
    auto native = api::parse_native(*envelope);
    if (!native) return native.error();
    call.want_token_ids = native->want_token_ids;
  }
  call.model = *model;
  call.stream = envelope->stream;
  call.include_usage = envelope->include_usage;
  call.body = std::move(envelope->body);
  call.patience = *patience;
  return call;
}

Result<const config::Model*> find_model(const Settings& settings, std::string_view id) {
  if (const config::Model* model = settings.find_model(id)) return model;
  return fail(ErrorCode::kModelNotFound,
              fmt::format("[model] the model \"{}\" is not configured here; GET /v1/models lists "
                          "what is",
                          id.substr(0, 256)),
              "model");
}

boost::json::object model_object(const config::Model& model, std::int64_t created) {
  boost::json::object object{{"id", model.id},
                             {"object", "model"},
                             {"created", created},
                             {"owned_by", model.native() ? "mlx-serving" : "foreign"}};
  if (model.context_tokens_max) object["max_model_len"] = *model.context_tokens_max;
  return object;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size()) {
      const char* digits = text.data() + i + 1;
      const auto [end, error] = std::from_chars(digits, digits + 2, value, 16);
      if (error == std::errc{} && end == digits + 2) {
        out += static_cast<char>(value);
        i += 2;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

}  // namespace mlxs::gateway
