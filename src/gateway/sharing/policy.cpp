#include "gateway/sharing/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using config::SharePolicy;

std::optional<CacheControl> control_named(std::string_view word) {
  if (word == "bypass") return CacheControl::kBypass;
  if (word == "no-store") return CacheControl::kNoStore;
  if (word == "refresh") return CacheControl::kRefresh;
  return std::nullopt;
}

Error unknown_word(std::string_view param) {
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("Invalid '{}': expected bypass, no-store or refresh.", param),
              std::string{param});
}

// RFC 9111: directives are comma separated and compare without case. The stricter one counts.
CacheControl from_cache_control(std::string_view header) {
  std::string text{header};
  std::ranges::transform(
      text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  CacheControl control = CacheControl::kUse;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    std::string_view word = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    const std::size_t begin = word.find_first_not_of(" \t");
    if (begin == std::string_view::npos) continue;
    word = word.substr(begin, word.find_last_not_of(" \t") + 1 - begin);
    const bool no_store = word == "no-store";
    if (!no_store && word != "no-cache") continue;
    const CacheControl said = no_store ? CacheControl::kNoStore : CacheControl::kRefresh;
    // Together they say: nothing old, and do not keep the new.
    control = control == CacheControl::kUse || control == said ? said : CacheControl::kBypass;
  }
  return control;
}

const json::value* member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool permits(SharePolicy of_layer, SharePolicy of_key, bool deterministic) {
  const SharePolicy policy = std::min(of_layer, of_key);
  return policy == SharePolicy::kAll || (policy == SharePolicy::kDeterministic && deterministic);
}

}  // namespace

Result<CacheControl> read_cache_control(const http::Request& request, const json::object& body) {
  if (const auto header = request.headers.get("x-mlx-cache")) {
    const auto control = control_named(*header);
    if (!control) return unknown_word("x-mlx-cache");
    return *control;
  }
  if (const json::value* extension = member(body, "mlxs");
      extension != nullptr && extension->is_object()) {
    if (const json::value* word = member(extension->get_object(), "cache")) {
      const auto control =
          word->is_string() ? control_named(std::string_view{word->get_string()}) : std::nullopt;
      if (!control) return unknown_word("mlxs.cache");
      return *control;
    }
  }
  if (const auto header = request.headers.get("cache-control")) return from_cache_control(*header);
  return CacheControl::kUse;
}

bool is_deterministic(const json::object& body, bool native) {
  if (native && member(body, "seed") != nullptr) return true;
  const json::value* temperature = member(body, "temperature");
  return temperature != nullptr && temperature->is_number() &&
         temperature->to_number<double>() == 0;
}

SharingRules sharing_rules(const config::Model& model,
                           SharePolicy of_key,
                           const Features& features,
                           bool deterministic,
                           CacheControl control) {
  SharingRules rules;
  rules.deterministic = deterministic;
  if (control == CacheControl::kBypass) return rules;
  const auto on = [&](SharePolicy of_layer, Feature feature) {
    return permits(of_layer, of_key, deterministic) && features.enabled(feature, model.id);
  };
  rules.coalescing = on(model.sharing.coalescing.policy, Feature::kCoalescing);
  rules.dedup = on(model.sharing.dedup.policy, Feature::kDedup);
  rules.prompt_cache = on(model.sharing.prompt_cache.policy, Feature::kPromptCache);
  rules.join = rules.coalescing && control != CacheControl::kRefresh;
  rules.read = control != CacheControl::kRefresh;
  rules.keep = control != CacheControl::kNoStore;
  return rules;
}

}  // namespace mlxs::gateway
