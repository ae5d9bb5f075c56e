#include "gateway/admin/cache_admin.h"

#include "gateway/stages/guard.h"
#include "gateway/stages/model.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

Error invalid(std::string message, std::string param = {}) {
  return fail(ErrorCode::kInvalidRequest, "[admin] " + std::move(message), std::move(param));
}

// The body as an object with none but the `known` keys: a misspelled one must not widen an action.
Result<json::object> read_body(const http::Request& request,
                               std::initializer_list<std::string_view> known) {
  MLXS_TRY(check_content_type(request));
  boost::system::error_code bad;
  json::value value = json::parse(request.body, bad);
  if (bad || !value.is_object()) return invalid("expected a JSON object");
  for (const auto& [key, unused] : value.get_object()) {
    const std::string_view name{key.data(), key.size()};
    if (std::ranges::find(known, name) == known.end())
      return invalid(fmt::format("unknown field \"{}\"", name), std::string{name});
  }
  return std::move(value.get_object());
}

Result<std::string> text_field(const json::object& body, std::string_view key) {
  const json::value* value = body.if_contains(key);
  if (value == nullptr || !value->is_string())
    return invalid(fmt::format("expected a text in \"{}\"", key), std::string{key});
  return std::string{value->get_string()};
}

Result<FlushScope> read_scope(const json::object& body, const Settings& settings) {
  const auto word = text_field(body, "scope");
  if (!word) return word.error();
  const std::size_t fields = *word == "all" ? 1 : 2;
  if (body.size() != fields && (*word == "all" || body.contains(*word)))
    return invalid(fmt::format("scope \"{}\" takes no other field", *word), "scope");
  if (*word == "all") return FlushScope{};
  if (*word != "tenant" && *word != "model" && *word != "key")
    return invalid("expected all, tenant, model or key in \"scope\"", "scope");
  auto name = text_field(body, *word);
  if (!name) return name.error();
  if (*word == "model") {
    auto model = find_model(settings, *name);
    if (!model) return model.error();
    return FlushScope{.kind = FlushScope::Kind::kModel, .name = std::move(*name)};
  }
  if (*word == "tenant") {
    const auto& keys = settings.config.keys;
    const bool known = keys.empty()
                           ? name->empty()
                           : std::ranges::find(keys, *name, &config::Key::name) != keys.end();
    if (!known)
      return fail(
          ErrorCode::kNotFound, fmt::format("[admin] no API key is named \"{}\"", *name), "tenant");
    return FlushScope{.kind = FlushScope::Kind::kTenant, .name = std::move(*name)};
  }
  const auto digest = sha256_from_hex(*name);
  if (!digest)
    return invalid("expected the 64 hexadecimal digits of an answer's x-mlx-cache-key", "key");
  return FlushScope{.kind = FlushScope::Kind::kKey, .digest = *digest};
}

// JSON, so that no name can break the line.
void audit(const RequestScope& scope, json::object line, std::string_view result) {
  line["key"] = scope.record.key;
  line["request_id"] = scope.record.request_id;
  line["result"] = result;
  spdlog::info("[audit] {}", json::serialize(line));
}

json::object layer_json(const StoreStats::LayerStats& layer) {
  return {{"entries", layer.entries}, {"bytes", layer.bytes}, {"hits", layer.hits}};
}

json::object layers_json(const std::array<StoreStats::LayerStats, 2>& layers) {
  json::object object;
  for (const Layer layer : {Layer::kDedup, Layer::kPromptCache})
    object[to_string(layer)] = layer_json(layers[static_cast<std::size_t>(layer)]);
  return object;
}

config::SharePolicy policy_of(const config::Model& model, Feature feature) {
  switch (feature) {
    case Feature::kCoalescing:
      return model.sharing.coalescing.policy;
    case Feature::kDedup:
      return model.sharing.dedup.policy;
    case Feature::kPromptCache:
      return model.sharing.prompt_cache.policy;
  }
  return config::SharePolicy::kOff;
}

}  // namespace

asio::awaitable<void> CacheAdmin::show(http::Exchange& exchange, RequestScope& scope) {
  const StoreStats stats = shared_.answers.stats();
  json::object evictions;
  for (const Eviction reason : kEvictions)
    evictions[to_string(reason)] = stats.evictions[static_cast<std::size_t>(reason)];
  json::object models;
  for (const auto& [id, model] : stats.models) {
    models[id] = json::object{
        {"layers", layers_json(model.layers)}, {"stale", model.stale}, {"misses", model.misses}};
  }
  const auto& limits = scope.settings->config.prompt_cache;
  json::object body{{"limits", {{"entries", limits.entries}, {"bytes", limits.bytes}}},
                    {"layers", layers_json(stats.layers)},
                    {"stale", stats.stale},
                    {"misses", stats.misses},
                    {"inserted", stats.inserted},
                    {"too_large", stats.too_large},
                    {"collisions", stats.collisions},
                    {"evictions", std::move(evictions)},
                    {"models", std::move(models)},
                    {"flushes", shared_.epochs.state().count}};
  return reply_json(exchange, scope, 200, std::move(body));
}

asio::awaitable<void> CacheAdmin::flush(http::Exchange& exchange, RequestScope& scope) {
  auto body = read_body(exchange.request(), {"scope", "tenant", "model", "key"});
  if (!body) {
    co_await reply_error(exchange, scope, body.error());
    co_return;
  }
  auto covered = read_scope(*body, *scope.settings);
  if (!covered) {
    co_await reply_error(exchange, scope, covered.error());
    co_return;
  }
  const auto flushed = co_await keeper_.flush(std::move(*covered));
  json::object action{{"action", "cache/flush"}, {"flushed", *body}};
  audit(scope, std::move(action), flushed ? std::string{"ok"} : flushed.error().message);
  if (!flushed) {
    co_await reply_error(exchange, scope, flushed.error());
    co_return;
  }
  json::object answer{{"flushed", std::move(*body)}, {"flushes", shared_.epochs.state().count}};
  co_await reply_json(exchange, scope, 200, std::move(answer));
}

json::object CacheAdmin::describe(Feature feature, const Settings& settings) const {
  json::array models;
  for (const config::Model& model : settings.config.models) {
    const config::SharePolicy policy = policy_of(model, feature);
    const bool enabled = shared_.features.enabled(feature, model.id);
    models.push_back({{"model", model.id},
                      {"enabled", enabled},
                      {"policy", config::to_string(policy)},
                      {"in_force", enabled && policy != config::SharePolicy::kOff}});
  }
  return {{"name", to_string(feature)},
          {"enabled", shared_.features.enabled(feature)},
          {"models", std::move(models)}};
}

asio::awaitable<void> CacheAdmin::features(http::Exchange& exchange, RequestScope& scope) {
  json::array list;
  for (const Feature feature : kFeatures) list.push_back(describe(feature, *scope.settings));
  return reply_json(exchange, scope, 200, json::object{{"features", std::move(list)}});
}

asio::awaitable<void> CacheAdmin::set_feature(http::Exchange& exchange, RequestScope& scope) {
  constexpr std::string_view kPrefix = "/admin/v1/features/";
  const std::string_view name = exchange.request().path().substr(kPrefix.size());
  const auto feature = feature_named(name);
  if (!feature) {
    Error error = fail(ErrorCode::kNotFound, fmt::format("[admin] there is no feature {}", name));
    return reply_error(exchange, scope, std::move(error));
  }
  auto body = read_body(exchange.request(), {"enabled", "model"});
  if (!body) return reply_error(exchange, scope, body.error());
  const json::value* enabled = body->if_contains("enabled");
  if (enabled == nullptr || !enabled->is_bool())
    return reply_error(
        exchange, scope, invalid("expected true or false in \"enabled\"", "enabled"));
  if (body->contains("model")) {
    const auto id = text_field(*body, "model");
    if (!id) return reply_error(exchange, scope, id.error());
    const auto model = find_model(*scope.settings, *id);
    if (!model) return reply_error(exchange, scope, model.error());
    shared_.features.set(*feature, *id, enabled->get_bool());
  } else {
    shared_.features.set(*feature, enabled->get_bool());
  }
  json::object action{{"action", "features"}, {"name", name}, {"set", std::move(*body)}};
  audit(scope, std::move(action), "ok");
  return reply_json(exchange, scope, 200, describe(*feature, *scope.settings));
}

}  // namespace mlxs::gateway
