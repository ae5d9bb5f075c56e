#pragma once

#include "config/node.h"
#include "config/schema.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mlxs::config {

/// "FILE:LINE: KEY: what is wrong".
[[nodiscard]] Error wrong(const Node& node, const std::string& path, std::string_view what);

// One value each; nothing when it was read. The target is left alone on an error.
using Wrong = std::optional<Error>;
[[nodiscard]] Wrong read(const Node&, const std::string& path, std::string&, const Text&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, bool&, const Flag&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, int&, const Range&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, std::uint64_t&, const Range&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, Milliseconds&, const Range&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, Seconds&, const Range&);
[[nodiscard]] Wrong read(const Node&, const std::string& path, SharePolicy&, const Policy&);
/// `digest` and `key` are the nodes of `sha256` and `key`, nullptr where absent.
[[nodiscard]] Wrong read_secret(
    const Node& owner, const std::string& path, const Node* digest, const Node* key, Sha256&);
/// For a key that no rule took; `known` are the keys that may stand there.
[[nodiscard]] Error unknown_key(const Node::Entry& entry,
                                const std::string& path,
                                const std::vector<std::string>& known);

/// The visitor that fills an object from a map. Keeps the first error and stops reading there.
template <class C>
class Reader {
 public:
  Reader(C& object, const Node& node, std::string path, Wrong& error)
      : object_(object), node_(&node), path_(std::move(path)), error_(error) {
    if (!error_ && node.kind != Node::Kind::kMap && node.kind != Node::Kind::kNull)
      error_ = wrong(node, path_, "expected keys with values");
  }

  template <class T, class Rule>
  void value(std::string_view key, T C::* member, const Rule& rule, Apply /*apply*/) {
    const Node* node = take(key);
    if (error_) return;
    if (node != nullptr) {
      error_ = read_into(*node, join(key), object_.*member, rule);
    } else if constexpr (std::is_same_v<Rule, Text>) {
      if (rule.required) missing(key, "is missing");
    }
  }

  void texts(std::string_view key,
             std::vector<std::string> C::* member,
             const Text& rule,
             Apply /*apply*/) {
    each(key, [&](const Node& item, const std::string& path) {
      error_ = read(item, path, (object_.*member).emplace_back(), rule);
    });
  }

  template <class G>
  void group(std::string_view key, G C::* member) {
    if (const Node* node = take(key)) read_object(object_.*member, *node, join(key));
  }

  template <class F>
  void within(std::string_view key, const F& describe_keys) {
    const Node* node = take(key);
    if (error_) return;
    const Node absent;
    Reader inner{object_, node != nullptr ? *node : absent, join(key), error_};
    describe_keys(inner);
    inner.finish();
  }

  template <class E>
  void list(std::string_view key, std::vector<E> C::* member) {
    each(key, [&](const Node& item, const std::string& path) {
      read_object((object_.*member).emplace_back(), item, path);
    });
  }

  void secret(Sha256 C::* member) {
    const Node* digest = take("sha256");
    const Node* key = take("key");
    if (!error_) error_ = read_secret(*node_, path_, digest, key, object_.*member);
  }

  void workers() {
    const Node* node = node_->find("workers");
    if (node == nullptr || node->kind != Node::Kind::kList) {
      value("workers", &C::workers, kWorkers, Apply::kReload);
    } else if (node->items.empty()) {
      take("workers");
      if (!error_) error_ = wrong(*node, join("workers"), "the list is empty");
    } else {
      each("workers", [&](const Node& item, const std::string& path) {
        Reader<UrlWorker> inner{object_.url_workers.emplace_back(), item, path, error_};
        inner.kind_url();
        describe(inner, std::type_identity<UrlWorker>{});
        inner.finish();
      });
    }
    if (error_) return;
    if (object_.native() && object_.source.empty())
      missing("source", "is missing (or give `workers` as a list of URLs)");
    if (!object_.native() && !object_.source.empty())
      error_ = wrong(*node_->find("source"),
                     join("source"),
                     "a model has either a source or a list of workers with URLs, not both");
  }

  template <class F>
  void native_only(const F& describe_keys) {
    const std::size_t known = known_.size();
    describe_keys(*this);
    if (error_ || object_.native()) return;
    for (const Node::Entry& entry : node_->entries) {
      if (std::find(known_.begin() + static_cast<std::ptrdiff_t>(known), known_.end(), entry.key) !=
          known_.end())
        error_ = wrong(entry.value, join(entry.key), "only a model with a source has this key");
    }
  }

  /// `kind` of a listed worker: a URL is all that there is.
  void kind_url() {
    const Node* node = take("kind");
    if (error_) return;
    if (node == nullptr) {
      missing("kind", "is missing: expected url");
    } else if (node->kind != Node::Kind::kScalar || node->text != "url") {
      error_ = wrong(*node, join("kind"), "expected url");
    }
  }

  /// After the description: whatever was not asked for is unknown. Only then comes what is missing,
  /// since it is often there, misspelled.
  void finish() {
    if (error_) return;
    for (const Node::Entry& entry : node_->entries) {
      if (std::find(known_.begin(), known_.end(), entry.key) != known_.end()) continue;
      error_ = unknown_key(entry, join(entry.key), known_);
      return;
    }
    error_ = missing_;
  }

 private:
  template <class T, class Rule>
  static Wrong read_into(const Node& node, const std::string& path, T& target, const Rule& rule) {
    return read(node, path, target, rule);
  }
  template <class T>
  static Wrong read_into(const Node& node,
                         const std::string& path,
                         std::optional<T>& target,
                         const Range& rule) {
    T present{};
    Wrong error = read(node, path, present, rule);
    if (!error) target = present;
    return error;
  }

  template <class G>
  void read_object(G& object, const Node& node, const std::string& path) {
    if (error_) return;
    Reader<G> inner{object, node, path, error_};
    describe(inner, std::type_identity<G>{});
    inner.finish();
  }

  template <class F>
  void each(std::string_view key, const F& read_item) {
    const Node* node = take(key);
    if (error_ || node == nullptr || node->kind == Node::Kind::kNull) return;
    if (node->kind != Node::Kind::kList) {
      error_ = wrong(*node, join(key), "expected a list");
      return;
    }
    for (std::size_t i = 0; i < node->items.size() && !error_; ++i)
      read_item(node->items[i], join(key) + "[" + std::to_string(i) + "]");
  }

  void missing(std::string_view key, std::string_view what) {
    if (!missing_) missing_ = wrong(*node_, join(key), what);
  }

  const Node* take(std::string_view key) {
    known_.emplace_back(key);
    return error_ ? nullptr : node_->find(key);
  }

  [[nodiscard]] std::string join(std::string_view key) const {
    return path_.empty() ? std::string{key} : path_ + "." + std::string{key};
  }

  C& object_;
  const Node* node_;
  std::string path_;
  Wrong& error_;
  Wrong missing_;
  std::vector<std::string> known_;
};

}  // namespace mlxs::config
