#include "config/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace mlxs::config {
namespace {

constexpr std::size_t kSecretBytesMax = 4096;

/// The scalar's text, or nullptr with `error` set.
const std::string* scalar(const Node& node,
                          const std::string& path,
                          std::string_view expected,
                          Wrong& error) {
  if (node.kind == Node::Kind::kScalar) return &node.text;
  const std::string_view came = node.kind == Node::Kind::kNull   ? "nothing"
                                : node.kind == Node::Kind::kList ? "a list"
                                                                 : "keys with values";
  error = wrong(node, path, fmt::format("expected {}, got {}", expected, came));
  return nullptr;
}

std::optional<std::int64_t> parse_integer(const Node& node) {
  std::int64_t number = 0;
  const char* const end = node.text.data() + node.text.size();
  const auto [stop, error] = std::from_chars(node.text.data(), end, number);
  if (node.quoted || error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

Wrong read_integer(const Node& node,
                   const std::string& path,
                   std::int64_t& target,
                   const Range& rule,
                   std::string_view kind) {
  const std::string expected = fmt::format("{} from {} to {}", kind, rule.min, rule.max);
  Wrong error;
  const std::string* const text = scalar(node, path, expected, error);
  if (text == nullptr) return error;
  const auto number = parse_integer(node);
  if (!number || *number < rule.min || *number > rule.max)
    return wrong(node, path, fmt::format("expected {}, got \"{}\"", expected, *text));
  target = *number;
  return {};
}

Wrong read_key(const Node& node, const std::string& path, Sha256& target) {
  constexpr std::string_view kExpected =
      "expected ${NAME} for an environment variable or file:PATH; a secret does not belong here";
  Wrong error;
  const std::string* const text = scalar(node, path, "${NAME} or file:PATH", error);
  if (text == nullptr) return error;
  std::string secret;
  if (text->starts_with("${") && text->ends_with("}")) {
    const std::string name = text->substr(2, text->size() - 3);
    const char* const value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0')
      return wrong(node, path, fmt::format("the environment variable {} is not set", name));
    secret = value;
  } else if (text->starts_with("file:")) {
    const std::string file = text->substr(5);
    std::ifstream in{file, std::ios::binary};
    if (!in) return wrong(node, path, fmt::format("cannot read the file {}", file));
    secret.resize(kSecretBytesMax + 1);
    in.read(secret.data(), static_cast<std::streamsize>(secret.size()));
    secret.resize(static_cast<std::size_t>(in.gcount()));
    while (secret.ends_with('\n') || secret.ends_with('\r')) secret.pop_back();
    if (secret.empty()) return wrong(node, path, fmt::format("the file {} is empty", file));
  } else {
    return wrong(node, path, kExpected);
  }
  if (secret.size() > kSecretBytesMax)
    return wrong(node, path, fmt::format("the secret is longer than {} bytes", kSecretBytesMax));
  target = sha256(secret);
  return {};
}

Wrong read_digest(const Node& node, const std::string& path, Sha256& target) {
  constexpr std::string_view kExpected = "64 hexadecimal digits";
  Wrong error;
  const std::string* const text = scalar(node, path, kExpected, error);
  if (text == nullptr) return error;
  const auto digest = sha256_from_hex(*text);
  if (!digest) return wrong(node, path, fmt::format("expected {}", kExpected));
  target = *digest;
  return {};
}

}  // namespace

Error wrong(const Node& node, const std::string& path, std::string_view what) {
  return fail(ErrorCode::kConfig, fmt::format("{}: {}: {}", node.place, path, what), path);
}

Wrong read(const Node& node, const std::string& path, std::string& target, const Text& rule) {
  Wrong error;
  const std::string* text = scalar(node, path, rule.expected, error);
  if (text == nullptr) return error;
  const std::string off = "off";
  if (rule.off_word && !node.quoted && *text == "false") text = &off;
  if (!rule.ok(*text))
    return wrong(node, path, fmt::format("expected {}, got \"{}\"", rule.expected, *text));
  target = *text;
  return {};
}

Wrong read(const Node& node, const std::string& path, bool& target, const Flag& /*rule*/) {
  constexpr std::string_view kExpected = "true, false, on or off";
  Wrong error;
  const std::string* const text = scalar(node, path, kExpected, error);
  if (text == nullptr) return error;
  const bool yes = *text == "true" || *text == "on";
  if (node.quoted || (!yes && *text != "false" && *text != "off"))
    return wrong(node, path, fmt::format("expected {}, got \"{}\"", kExpected, *text));
  target = yes;
  return {};
}

Wrong read(const Node& node, const std::string& path, int& target, const Range& rule) {
  std::int64_t number = 0;
  Wrong error = read_integer(node, path, number, rule, "a whole number");
  if (!error) target = static_cast<int>(number);
  return error;
}

Wrong read(const Node& node, const std::string& path, Milliseconds& target, const Range& rule) {
  std::int64_t number = 0;
  Wrong error = read_integer(node, path, number, rule, "milliseconds");
  if (!error) target = Milliseconds{number};
  return error;
}

Wrong read(const Node& node, const std::string& path, Seconds& target, const Range& rule) {
  std::int64_t number = 0;
  Wrong error = read_integer(node, path, number, rule, "seconds");
  if (!error) target = Seconds{number};
  return error;
}

Wrong read(const Node& node, const std::string& path, SharePolicy& target, const Policy& /*rule*/) {
  Wrong error;
  const std::string* const text = scalar(node, path, kPolicyWords, error);
  if (text == nullptr) return error;
  const std::string_view word = !node.quoted && *text == "false" ? "off" : std::string_view{*text};
  for (const auto& [name, policy] : kPolicies) {
    if (name != word) continue;
    target = policy;
    return {};
  }
  return wrong(node, path, fmt::format("expected {}, got \"{}\"", kPolicyWords, *text));
}

Wrong read(const Node& node, const std::string& path, std::uint64_t& target, const Range& rule) {
  const std::string expected = fmt::format("a size from {} to {} (512, 16KiB, 256MiB, 1GB)",
                                           format_size(static_cast<std::uint64_t>(rule.min)),
                                           format_size(static_cast<std::uint64_t>(rule.max)));
  Wrong error;
  const std::string* const text = scalar(node, path, expected, error);
  if (text == nullptr) return error;
  const auto bytes = parse_size(*text);
  if (node.quoted || !bytes || *bytes < static_cast<std::uint64_t>(rule.min) ||
      *bytes > static_cast<std::uint64_t>(rule.max))
    return wrong(node, path, fmt::format("expected {}, got \"{}\"", expected, *text));
  target = *bytes;
  return {};
}

Wrong read_secret(const Node& owner,
                  const std::string& path,
                  const Node* digest,
                  const Node* key,
                  Sha256& target) {
  if ((digest == nullptr) == (key == nullptr))
    return wrong(owner, path, "expected either sha256 or key beside the name");
  return key != nullptr ? read_key(*key, path + ".key", target)
                        : read_digest(*digest, path + ".sha256", target);
}

Error unknown_key(const Node::Entry& entry,
                  const std::string& path,
                  const std::vector<std::string>& known) {
  std::string hint;
  if (const std::string near = nearest(entry.key, known); !near.empty()) {
    hint = fmt::format("; did you mean {}?", near);
  } else {
    // The right word in the wrong section is as common as a misspelling.
    const std::vector<KeyInfo> everywhere = keys();
    const auto found = std::ranges::find_if(
        everywhere, [&](const KeyInfo& info) { return info.path.ends_with("." + entry.key); });
    if (found != everywhere.end()) hint = fmt::format("; did you mean {}?", found->path);
  }
  return fail(
      ErrorCode::kConfig, fmt::format("{}: {}: unknown key{}", entry.place, path, hint), path);
}

}  // namespace mlxs::config
