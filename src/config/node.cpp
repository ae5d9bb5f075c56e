#include "config/node.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

namespace mlxs::config {
namespace {

constexpr std::size_t kNodesMax = 100'000;
constexpr std::size_t kDepthMax = 64;
constexpr std::size_t kOverrideIndexMax = 100'000;

/// Leaves the parser through its exceptions; never leaves this file.
struct Refused {
  int line;
  std::string what;
};

/// Builds the tree from the parser's events. YAML::Load is not used: in yaml-cpp 0.7 it loops and
/// allocates forever on some malformed files, and it expands anchors before anyone can count them.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string_view file) : file_(file) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    // Text after the document's end is another document to the parser.
    if (++documents_ > 1) throw Refused{mark.line, "more than one YAML document, or stray text"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    attach(Frame{make(mark, Node::Kind::kNull), mark.line, anchor, {}});
  }
  void OnScalar(const YAML::Mark& mark,
                const std::string& tag,
                YAML::anchor_t anchor,
                const std::string& value) override {
    const bool quoted = tag == "!";
    const bool null =
        !quoted && (value.empty() || value == "~" || value == "null" || value == "Null");
    Node node = make(mark, null ? Node::Kind::kNull : Node::Kind::kScalar);
    node.text = null ? std::string{} : value;
    node.quoted = quoted;
    attach(Frame{std::move(node), mark.line, anchor, {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Refused{mark.line, "this alias stands inside its anchor"};
    count(found->second, mark.line);
    Node copy = found->second;
    attach(Frame{std::move(copy), mark.line, YAML::NullAnchor, {}});
  }
  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& /*tag*/,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(mark, Node::Kind::kList, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark,
                  const std::string& /*tag*/,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(mark, Node::Kind::kMap, anchor);
  }
  void OnMapEnd() override { close(); }

  [[nodiscard]] Node take_root() { return std::move(root_); }

 private:
  /// A list or map that is still open, or a value on its way into one.
  struct Frame {
    Node node;
    int line;
    YAML::anchor_t anchor;
    std::optional<Node> key;  ///< Maps: read, its value not yet.
  };

  Node make(const YAML::Mark& mark, Node::Kind kind) {
    if (++count_ > kNodesMax) throw Refused{mark.line, "too many values"};
    Node node;
    node.kind = kind;
    node.place = fmt::format("{}:{}", file_, mark.line + 1);
    return node;
  }

  void count(const Node& node, int line) {
    if (++count_ > kNodesMax) throw Refused{line, "too many values"};
    for (const Node& item : node.items) count(item, line);
    for (const Node::Entry& entry : node.entries) count(entry.value, line);
  }

  void open(const YAML::Mark& mark, Node::Kind kind, YAML::anchor_t anchor) {
    if (stack_.size() >= kDepthMax) throw Refused{mark.line, "too deeply nested"};
    stack_.push_back(Frame{make(mark, kind), mark.line, anchor, {}});
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    attach(std::move(frame));
  }

  void attach(Frame frame) {
    if (frame.anchor != YAML::NullAnchor) anchors_[frame.anchor] = frame.node;
    if (stack_.empty()) {
      root_ = std::move(frame.node);
      return;
    }
    Frame& parent = stack_.back();
    if (parent.node.kind == Node::Kind::kList) {
      parent.node.items.push_back(std::move(frame.node));
    } else if (!parent.key) {
      if (frame.node.kind != Node::Kind::kScalar)
        throw Refused{frame.line, "a key must be plain text"};
      if (parent.node.find(frame.node.text) != nullptr)
        throw Refused{frame.line, frame.node.text + ": this key occurs twice"};
      parent.key = std::move(frame.node);
    } else {
      parent.node.entries.push_back({parent.key->text, parent.key->place, std::move(frame.node)});
      parent.key.reset();
    }
  }

  std::string_view file_;
  int documents_ = 0;
  std::size_t count_ = 0;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, Node> anchors_;
  Node root_;
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
  const auto refused = [file](int line, std::string_view what) {
    return fail(ErrorCode::kConfig, fmt::format("{}:{}: {}", file, line + 1, what));
  };
  // yaml-cpp reports by exceptions only; they stop here.
  try {
    std::istringstream in{std::string{text}};
    YAML::Parser parser{in};
    Builder builder{file};
    while (parser.HandleNextDocument(builder)) {
    }
    Node root = builder.take_root();
    if (root.place.empty()) root.place = fmt::format("{}:1", file);
    return root;
  } catch (const Refused& error) {
    return refused(error.line, error.what);
  } catch (const YAML::Exception& error) {
    return refused(error.mark.is_null() ? 0 : error.mark.line, "not YAML: " + error.msg);
  } catch (const std::exception& error) {
    return refused(0, fmt::format("not YAML: {}", error.what()));
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
