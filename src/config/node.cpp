#include "config/node.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace mlxs::config {
namespace {

constexpr std::size_t kNodesMax = 100'000;
constexpr int kDepthMax = 64;
constexpr std::size_t kOverrideIndexMax = 100'000;

/// Copies the library's tree. Stops at the first error, which it keeps.
class Converter {
 public:
  explicit Converter(std::string_view file) : file_(file) {}

  Node convert(const YAML::Node& from, int depth) {
    Node to;
    to.place = place(from);
    if (++count_ > kNodesMax || depth > kDepthMax) {
      set_error(to.place, "too many or too deeply nested values");
      return to;
    }
    switch (from.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        break;
      case YAML::NodeType::Scalar:
        to.kind = Node::Kind::kScalar;
        to.text = from.Scalar();
        to.quoted = from.Tag() == "!";
        break;
      case YAML::NodeType::Sequence:
        to.kind = Node::Kind::kList;
        for (const YAML::Node& item : from) {
          to.items.push_back(convert(item, depth + 1));
          if (error_) return to;
        }
        break;
      case YAML::NodeType::Map:
        to.kind = Node::Kind::kMap;
        convert_entries(from, depth, to);
        break;
    }
    return to;
  }

  [[nodiscard]] std::optional<Error>& error() { return error_; }

 private:
  void convert_entries(const YAML::Node& from, int depth, Node& to) {
    for (const auto& pair : from) {
      const std::string where = place(pair.first);
      if (!pair.first.IsScalar()) {
        set_error(where, "a key must be plain text");
      } else if (to.find(pair.first.Scalar()) != nullptr) {
        set_error(where, pair.first.Scalar() + ": this key occurs twice");
      } else {
        Node value = convert(pair.second, depth + 1);
        to.entries.push_back({pair.first.Scalar(), where, std::move(value)});
      }
      if (error_) return;
    }
  }

  [[nodiscard]] std::string place(const YAML::Node& node) const {
    return fmt::format("{}:{}", file_, node.Mark().line + 1);
  }

  void set_error(const std::string& where, const std::string& what) {
    if (!error_) error_ = fail(ErrorCode::kConfig, where + ": " + what);
  }

  std::string_view file_;
  std::size_t count_ = 0;
  std::optional<Error> error_;
};

void set_place(Node& node, const std::string& place) {
  node.place = place;
  for (Node& item : node.items) set_place(item, place);
  for (Node::Entry& entry : node.entries) {
    entry.place = place;
    set_place(entry.value, place);
  }
}

struct Step {
  std::string key;                   ///< Empty: an index.
  std::optional<std::size_t> index;  ///< [N]
};

/// "models[0].batch.max_sequences" as steps; nothing if malformed.
std::optional<std::vector<Step>> split_path(std::string_view path) {
  std::vector<Step> steps;
  while (!path.empty()) {
    if (path.front() == '[') {
      std::size_t index = 0;
      const auto [end, error] = std::from_chars(path.data() + 1, path.data() + path.size(), index);
      const auto length = static_cast<std::size_t>(end - path.data());
      if (error != std::errc{} || length >= path.size() || *end != ']') return std::nullopt;
      if (steps.empty() || index > kOverrideIndexMax) return std::nullopt;
      steps.push_back({.key = {}, .index = index});
      path.remove_prefix(length + 1);
    } else {
      if (!steps.empty()) {
        if (path.front() != '.') return std::nullopt;
        path.remove_prefix(1);
      }
      const std::size_t length = std::min(path.find_first_of(".["), path.size());
      if (length == 0) return std::nullopt;
      steps.push_back({.key = std::string{path.substr(0, length)}, .index = {}});
      path.remove_prefix(length);
    }
  }
  if (steps.empty()) return std::nullopt;
  return steps;
}

/// The node one step further, made if it is missing; nullptr when the step does not fit.
Node* descend(Node& node, const Step& step, const std::string& place) {
  if (step.index) {
    if (node.kind == Node::Kind::kNull) node.kind = Node::Kind::kList;
    if (node.kind != Node::Kind::kList || *step.index > node.items.size()) return nullptr;
    if (*step.index == node.items.size()) node.items.emplace_back().place = place;
    return &node.items[*step.index];
  }
  if (node.kind == Node::Kind::kNull) node.kind = Node::Kind::kMap;
  if (node.kind != Node::Kind::kMap) return nullptr;
  const auto found = std::ranges::find(node.entries, step.key, &Node::Entry::key);
  if (found != node.entries.end()) return &found->value;
  node.entries.push_back({step.key, place, Node{}});
  node.entries.back().value.place = place;
  return &node.entries.back().value;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  const auto found = std::ranges::find(entries, key, &Entry::key);
  return found == entries.end() ? nullptr : &found->value;
}

Result<Node> read_yaml(std::string_view text, std::string_view file) {
  // yaml-cpp reports by exceptions only; they stop here.
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string{text});
    if (documents.empty()) {
      Node empty;
      empty.place = fmt::format("{}:1", file);
      return empty;
    }
    if (documents.size() > 1)
      return fail(ErrorCode::kConfig, fmt::format("{}:1: more than one YAML document", file));
    Converter converter{file};
    Node root = converter.convert(documents.front(), 0);
    if (converter.error()) return *converter.error();
    return root;
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
    return fail(ErrorCode::kConfig, fmt::format("{}:{}: not YAML: {}", file, line, error.msg));
  } catch (const std::exception& error) {
    return fail(ErrorCode::kConfig, fmt::format("{}:1: not YAML: {}", file, error.what()));
  }
}

Result<void> apply_overrides(Node& root, std::span<const std::string> overrides) {
  for (const std::string& text : overrides) {
    const std::size_t equals = text.find('=');
    const std::string path = text.substr(0, equals);
    const std::string place = "--set";
    const auto steps = split_path(path);
    if (equals == std::string::npos || !steps)
      return fail(ErrorCode::kConfig,
                  fmt::format("--set: {}: expected key=value, such as limits.in_flight=64 or "
                              "models[0].workers=2",
                              text));
    auto value = read_yaml(std::string_view{text}.substr(equals + 1), "--set " + path);
    if (!value) return value.error();
    set_place(*value, place);
    Node* node = &root;
    for (const Step& step : *steps) {
      node = descend(*node, step, place);
      if (node == nullptr)
        return fail(ErrorCode::kConfig,
                    fmt::format("--set: {}: there is no such place in the configuration", path));
    }
    *node = std::move(*value);
  }
  return {};
}

}  // namespace mlxs::config
