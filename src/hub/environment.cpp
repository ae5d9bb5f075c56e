#include "hub/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string_view>

namespace mlxs::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTokenBytesMax = 4096;

/// The first of `names` that is set to something.
std::string first_of(const Lookup& lookup, std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    const auto value = lookup(name);
    if (value && !value->empty()) return *value;
  }
  return {};
}

bool is_true(std::string value) {
  std::ranges::transform(value, value.begin(), [](unsigned char c) { return std::toupper(c); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string trimmed(std::string text) {
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  text.erase(std::find_if_not(text.rbegin(), text.rend(), space).base(), text.end());
  text.erase(text.begin(), std::ranges::find_if_not(text, space));
  return text;
}

fs::path with_home(const std::string& path, const fs::path& home) {
  if (path == "~") return home;
  return path.starts_with("~/") ? home / path.substr(2) : fs::path{path};
}

std::string token_in(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  std::string text(kTokenBytesMax, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return trimmed(std::move(text));
}

}  // namespace

Result<Environment> read_environment(const Lookup& lookup) {
  Environment environment;
  if (const std::string endpoint = first_of(lookup, {"HF_ENDPOINT"}); !endpoint.empty()) {
    environment.endpoint = endpoint;
    while (environment.endpoint.ends_with('/')) environment.endpoint.pop_back();
    const bool http = environment.endpoint.starts_with("http://");
    const bool https = environment.endpoint.starts_with("https://");
    if (!http && !https)
      return fail(
          ErrorCode::kConfig,
          fmt::format("HF_ENDPOINT: expected http://HOST or https://HOST, not {}", endpoint),
          "HF_ENDPOINT");
  }

  const fs::path home = first_of(lookup, {"HOME"});
  std::string hf_home = first_of(lookup, {"HF_HOME"});
  std::string cache_home = first_of(lookup, {"XDG_CACHE_HOME"});
  const fs::path base = !hf_home.empty()      ? with_home(hf_home, home)
                        : !cache_home.empty() ? with_home(cache_home, home) / "huggingface"
                                              : home / ".cache/huggingface";
  // The second name is what older tools read.
  const std::string cache = first_of(lookup, {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  std::error_code ignored;
  environment.cache = fs::absolute(cache.empty() ? base / "hub" : with_home(cache, home), ignored);

  environment.token = trimmed(first_of(lookup, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}));
  const std::string token_path = first_of(lookup, {"HF_TOKEN_PATH"});
  const char* from = "HF_TOKEN";
  if (environment.token.empty()) {
    from = "the token file";
    environment.token = token_in(token_path.empty() ? base / "token" : with_home(token_path, home));
  }
  if (!std::ranges::all_of(environment.token, [](unsigned char c) { return c > 0x20 && c < 0x7f; }))
    return fail(
        ErrorCode::kConfig, fmt::format("{} holds characters that no token has", from), "HF_TOKEN");

  environment.offline = is_true(first_of(lookup, {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  return environment;
}

Result<Environment> read_environment() {
  return read_environment([](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

}  // namespace mlxs::hub
