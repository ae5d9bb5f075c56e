#include "config/config.h"
#include "config/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::config {
namespace {

using Lines = std::vector<std::string>;

/// Whether YAML reads `text` as this very text without quotes.
bool plain(std::string_view text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) == 0) return false;
  for (const std::string_view word : {"null", "true", "false", "on", "yes", "no"}) {
    if (std::ranges::equal(text, word, [](char a, char b) {
          return std::tolower(static_cast<unsigned char>(a)) == b;
        }))
      return false;
  }
  return text.back() != ':' && std::ranges::all_of(text, [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  std::string_view{"_./:-"}.find(c) != std::string_view::npos;
         });
}

std::string spelled(const std::string& text) {
  if (plain(text)) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}
std::string spelled(int number) { return std::to_string(number); }
std::string spelled(bool flag) { return flag ? "true" : "false"; }
std::string spelled(std::uint64_t bytes) { return format_size(bytes); }
std::string spelled(Milliseconds time) { return std::to_string(time.count()); }
std::string spelled(Seconds time) { return std::to_string(time.count()); }
std::string spelled(SharePolicy policy) { return std::string{to_string(policy)}; }

bool absent(const std::string& text) { return text.empty(); }
template <class T>
bool absent(const T& /*value*/) {
  return false;
}

/// Appends `from` under `head`, indented.
void append_under(Lines& to, const std::string& head, const Lines& from) {
  if (from.empty()) return;
  to.push_back(head);
  for (const std::string& line : from) to.push_back("  " + line);
}

/// The visitor that writes an object as lines of YAML.
template <class C>
class Renderer {
 public:
  explicit Renderer(const C& object) : object_(object) {}

  template <class T, class Rule>
  void value(std::string_view key, T C::* member, const Rule& /*rule*/, Apply /*apply*/) {
    write(key, object_.*member);
  }

  void texts(std::string_view key,
             std::vector<std::string> C::* member,
             const Text& /*rule*/,
             Apply /*apply*/) {
    Lines items;
    for (const std::string& text : object_.*member) items.push_back("- " + spelled(text));
    append_list(key, items);
  }

  template <class G>
  void group(std::string_view key, G C::* member) {
    append_under(lines_, fmt::format("{}:", key), object_lines(object_.*member));
  }

  template <class F>
  void within(std::string_view key, const F& describe_keys) {
    Renderer inner{object_};
    describe_keys(inner);
    append_under(lines_, fmt::format("{}:", key), inner.lines_);
  }

  template <class E>
  void list(std::string_view key, std::vector<E> C::* member) {
    Lines items;
    for (const E& element : object_.*member) append_element(items, object_lines(element));
    append_list(key, items);
  }

  // Quoted: digits alone could be read as a number.
  void secret(Sha256 C::* member) {
    lines_.push_back(fmt::format("sha256: \"{}\"", to_hex(object_.*member)));
  }

  void workers() {
    if (object_.native()) {
      write("workers", object_.workers);
      return;
    }
    Lines items;
    for (const UrlWorker& worker : object_.url_workers) {
      Lines lines = object_lines(worker);
      lines.insert(lines.begin(), "kind: url");
      append_element(items, lines);
    }
    append_list("workers", items);
  }

  template <class F>
  void native_only(const F& describe_keys) {
    if (object_.native()) describe_keys(*this);
  }

  [[nodiscard]] const Lines& lines() const { return lines_; }

 private:
  template <class T>
  void write(std::string_view key, const T& value) {
    if (!absent(value)) lines_.push_back(fmt::format("{}: {}", key, spelled(value)));
  }
  template <class T>
  void write(std::string_view key, const std::optional<T>& value) {
    if (value) write(key, *value);
  }

  template <class G>
  static Lines object_lines(const G& object) {
    Renderer<G> inner{object};
    describe(inner, std::type_identity<G>{});
    return inner.lines();
  }

  static void append_element(Lines& items, const Lines& lines) {
    for (std::size_t i = 0; i < lines.size(); ++i)
      items.push_back((i == 0 ? "- " : "  ") + lines[i]);
  }

  void append_list(std::string_view key, const Lines& items) {
    if (items.empty()) {
      lines_.push_back(fmt::format("{}: []", key));
    } else {
      append_under(lines_, fmt::format("{}:", key), items);
    }
  }

  const C& object_;
  Lines lines_;
};

std::string range_words(const Text& rule, const std::string*) { return std::string{rule.expected}; }
std::string range_words(const Flag&, const bool*) { return "true, false, on or off"; }
std::string range_words(const Range& rule, const int*) {
  return fmt::format("{} to {}", rule.min, rule.max);
}
std::string range_words(const Range& rule, const Milliseconds*) {
  return fmt::format("{} to {}", rule.min, rule.max);
}
std::string range_words(const Range& rule, const Seconds*) {
  return fmt::format("{} to {}", rule.min, rule.max);
}
std::string range_words(const Policy&, const SharePolicy*) { return std::string{kPolicyWords}; }
std::string range_words(const Range& rule, const std::uint64_t*) {
  return fmt::format("{} to {}",
                     format_size(static_cast<std::uint64_t>(rule.min)),
                     format_size(static_cast<std::uint64_t>(rule.max)));
}

std::string type_name(const std::string*) { return "text"; }
std::string type_name(const bool*) { return "boolean"; }
std::string type_name(const int*) { return "integer"; }
std::string type_name(const Milliseconds*) { return "milliseconds"; }
std::string type_name(const Seconds*) { return "seconds"; }
std::string type_name(const SharePolicy*) { return "text"; }
std::string type_name(const std::uint64_t*) { return "size"; }

/// The visitor that lists keys.
template <class C>
class KeyLister {
 public:
  KeyLister(std::string prefix, std::vector<KeyInfo>& out)
      : prefix_(std::move(prefix)), out_(out) {}

  template <class T, class Rule>
  void value(std::string_view key, T C::* member, const Rule& rule, Apply apply) {
    const T& value = defaults_.*member;
    if constexpr (requires { value.has_value(); }) {
      const typename T::value_type* const type = nullptr;
      add(key, type_name(type), "", range_words(rule, type), apply);
    } else {
      const T* const type = nullptr;
      add(key,
          type_name(type),
          absent(value) ? std::string{} : unquoted(spelled(value)),
          range_words(rule, type),
          apply);
    }
  }

  void texts(std::string_view key,
             std::vector<std::string> C::* /*member*/,
             const Text& rule,
             Apply apply) {
    add(key, "list of text", "[]", std::string{rule.expected}, apply);
  }

  template <class G>
  void group(std::string_view key, G C::* /*member*/) {
    KeyLister<G> inner{fmt::format("{}{}.", prefix_, key), out_};
    describe(inner, std::type_identity<G>{});
  }

  template <class F>
  void within(std::string_view key, const F& describe_keys) {
    KeyLister inner{fmt::format("{}{}.", prefix_, key), out_};
    describe_keys(inner);
  }

  template <class E>
  void list(std::string_view key, std::vector<E> C::* /*member*/) {
    KeyLister<E> inner{fmt::format("{}{}[].", prefix_, key), out_};
    describe(inner, std::type_identity<E>{});
  }

  void secret(Sha256 C::* /*member*/) {
    add("sha256", "text", "", "64 hexadecimal digits", Apply::kReload);
    add("key", "text", "", "${NAME} or file:PATH", Apply::kReload);
  }

  void workers() {
    add("workers",
        "integer or list",
        spelled(defaults_.workers),
        fmt::format("{} to {}, or a list of URLs", kWorkers.min, kWorkers.max),
        Apply::kReload);
    KeyLister<UrlWorker> inner{prefix_ + "workers[].", out_};
    inner.add("kind", "text", "", "url", Apply::kReload);
    describe(inner, std::type_identity<UrlWorker>{});
  }

  template <class F>
  void native_only(const F& describe_keys) {
    describe_keys(*this);
  }

  void add(std::string_view key,
           std::string type,
           std::string default_value,
           std::string range,
           Apply apply) {
    out_.push_back({.path = prefix_ + std::string{key},
                    .type = std::move(type),
                    .default_value = std::move(default_value),
                    .range = std::move(range),
                    .restart = apply == Apply::kRestart});
  }

 private:
  static std::string unquoted(const std::string& text) {
    return text.starts_with('"') ? text.substr(1, text.size() - 2) : text;
  }

  C defaults_;
  std::string prefix_;
  std::vector<KeyInfo>& out_;
};

}  // namespace

std::string_view to_string(SharePolicy policy) {
  return std::ranges::find(kPolicies, policy, [](const auto& one) { return one.second; })->first;
}

std::string render(const Config& config) {
  Renderer<Config> renderer{config};
  describe(renderer, std::type_identity<Config>{});
  return fmt::format("{}\n", fmt::join(renderer.lines(), "\n"));
}

std::vector<KeyInfo> keys() {
  std::vector<KeyInfo> out;
  KeyLister<Config> lister{"", out};
  describe(lister, std::type_identity<Config>{});
  return out;
}

std::string render_defaults() {
  std::string out = render(Config{});
  for (const KeyInfo& info : keys()) {
    const bool rendered = info.path.find("[]") == std::string::npos && !info.default_value.empty();
    if (rendered) continue;
    out += fmt::format(
        "# {}: {}\n",
        info.path,
        info.default_value.empty() ? "(no default; " + info.range + ")" : info.default_value);
  }
  return out;
}

}  // namespace mlxs::config
