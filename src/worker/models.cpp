#include "worker/endpoints.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include <charconv>
#include <string>
#include <string_view>

namespace mlxs::worker {
namespace {

namespace json = boost::json;

json::object model_object(Context& context) {
  json::object model;
  model["id"] = context.options.id;
  model["object"] = "model";
  model["created"] = context.started_at;
  model["owned_by"] = "mlx-serving";
  if (context.model.ready())
    model["max_model_len"] = context.model.engine().info().context_tokens_max;
  return model;
}

/// `%2F` and its kin; anything that is no such escape stays as it is.
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    unsigned byte = 0;
    const char* digits = text.data() + at + 1;
    const bool escape = text[at] == '%' && at + 2 < text.size() &&
                        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2;
    out += escape ? static_cast<char>(byte) : text[at];
    if (escape) at += 2;
  }
  return out;
}

}  // namespace

boost::asio::awaitable<void> list_models(Context& context, Reply& reply) {
  json::array models;
  models.push_back(model_object(context));
  json::object body;
  body["object"] = "list";
  body["data"] = std::move(models);
  co_await reply.send_json(body);
}

boost::asio::awaitable<void> show_model(Context& context, Reply& reply) {
  constexpr std::string_view kPrefix = "/v1/models/";
  const std::string id = percent_decoded(reply.request().path().substr(kPrefix.size()));
  if (id == context.options.id) {
    co_await reply.send_json(model_object(context));
    co_return;
  }
  Error error{
      ErrorCode::kModelNotFound, fmt::format("The model '{}' does not exist.", id), "model"};
  co_await reply.fail(std::move(error));
}

}  // namespace mlxs::worker
