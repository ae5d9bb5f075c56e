#include "config/config.h"

#include "config/node.h"
#include "config/reader.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

namespace mlxs::config {
namespace {

constexpr std::size_t kFileBytesMax = 4UL * 1024 * 1024;

const Node& node_at(const Node& root, std::string_view key) {
  const Node* const found = root.find(key);
  return found != nullptr ? *found : root;
}

Wrong check_exposure(const Config& config, const Node& root) {
  if (!config.keys.empty() || config.allow_unauthenticated) return {};
  const auto check =
      [](const Node& node, const std::string& key, const std::string& text) -> Wrong {
    const auto address = parse_listen(text);
    if (address && address->loopback) return {};
    return wrong(node,
                 key,
                 text +
                     " can be reached from other machines and no API key is configured: add "
                     "`keys`, listen on 127.0.0.1, or say allow_unauthenticated: true");
  };
  if (auto error = check(node_at(root, "listen"), "listen", config.listen)) return error;
  return check(node_at(node_at(root, "admin"), "listen"), "admin.listen", config.admin.listen);
}

Wrong check_models(const Config& config, const Node& root) {
  std::set<std::string_view> ids;
  for (std::size_t i = 0; i < config.models.size(); ++i) {
    const Model& model = config.models[i];
    const Node& node = root.find("models")->items[i];
    const std::string path = fmt::format("models[{}]", i);
    if (!ids.insert(model.id).second)
      return wrong(node_at(node, "id"), path + ".id", "another model has the id " + model.id);
    // A step computes one token for every running sequence, so it must have room for all of them.
    if (model.step_tokens_max < model.sequences_max) {
      return wrong(node_at(node, "batch"),
                   path + ".batch.step_tokens",
                   fmt::format("{} is less than batch.max_sequences ({}): each running sequence "
                               "takes one token of a step",
                               model.step_tokens_max,
                               model.sequences_max));
    }
  }
  return {};
}

Wrong check_keys(const Config& config, const Node& root) {
  std::set<std::string_view> names;
  std::set<Sha256> digests;
  for (std::size_t i = 0; i < config.keys.size(); ++i) {
    const Node& node = root.find("keys")->items[i];
    const std::string path = fmt::format("keys[{}]", i);
    if (!names.insert(config.keys[i].name).second)
      return wrong(node_at(node, "name"), path + ".name", "another key has this name");
    if (!digests.insert(config.keys[i].sha256).second)
      return wrong(node, path, "another key has the same secret");
  }
  return {};
}

Wrong cross_check(const Config& config, const Node& root) {
  const auto address = parse_listen(config.listen);
  if (config.listen == config.admin.listen && address && !address->ephemeral)
    return wrong(node_at(root, "listen"), "listen", "admin.listen has the same address");
  if (auto error = check_keys(config, root)) return error;
  if (auto error = check_exposure(config, root)) return error;
  return check_models(config, root);
}

/// The visitor that compares two objects and puts back what a reload cannot change.
template <class C>
class Merger {
 public:
  Merger(const C& before, C& after, std::string prefix, std::vector<std::string>& restart)
      : before_(before), after_(after), prefix_(std::move(prefix)), restart_(restart) {}

  template <class T, class Rule>
  void value(std::string_view key, T C::* member, const Rule& /*rule*/, Apply apply) {
    if (apply == Apply::kReload || before_.*member == after_.*member) return;
    restart_.push_back(prefix_ + std::string{key});
    after_.*member = before_.*member;
  }

  void texts(std::string_view, std::vector<std::string> C::*, const Text&, Apply) {}

  template <class G>
  void group(std::string_view key, G C::* member) {
    Merger<G> inner{before_.*member, after_.*member, fmt::format("{}{}.", prefix_, key), restart_};
    describe(inner, std::type_identity<G>{});
  }

  template <class F>
  void within(std::string_view key, const F& describe_keys) {
    Merger inner{before_, after_, fmt::format("{}{}.", prefix_, key), restart_};
    describe_keys(inner);
  }

  void list(std::string_view, std::vector<Key> C::*) {}

  void list(std::string_view key, std::vector<Model> C::* member) {
    std::vector<Model>& models = after_.*member;
    for (std::size_t i = 0; i < models.size(); ++i) {
      for (const Model& old : before_.*member) {
        // A model that turns from native to foreign or back is a new one: its workers come and go.
        if (old.id != models[i].id || old.native() != models[i].native()) continue;
        Merger<Model> inner{old, models[i], fmt::format("{}{}[{}].", prefix_, key, i), restart_};
        describe(inner, std::type_identity<Model>{});
      }
    }
  }

  void workers() {}

  template <class F>
  void native_only(const F& describe_keys) {
    describe_keys(*this);
  }

 private:
  const C& before_;
  C& after_;
  std::string prefix_;
  std::vector<std::string>& restart_;
};

std::vector<std::string> merge(const Config& before, Config& after) {
  std::vector<std::string> restart;
  Merger<Config> merger{before, after, "", restart};
  describe(merger, std::type_identity<Config>{});
  return restart;
}

}  // namespace

Result<Config> parse(std::string_view text,
                     std::string_view file,
                     std::span<const std::string> overrides) {
  auto root = read_yaml(text, file);
  if (!root) return root.error();
  MLXS_TRY(apply_overrides(*root, overrides));
  Config config;
  Wrong error;
  Reader<Config> reader{config, *root, "", error};
  describe(reader, std::type_identity<Config>{});
  reader.finish();
  if (!error) error = cross_check(config, *root);
  if (error) return *std::move(error);
  return config;
}

Result<Config> load(const std::filesystem::path& file, std::span<const std::string> overrides) {
  std::ifstream in{file, std::ios::binary};
  if (!in) return fail(ErrorCode::kConfig, file.string() + ": cannot be read");
  std::string text(kFileBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (in.bad()) return fail(ErrorCode::kConfig, file.string() + ": cannot be read");
  if (text.size() > kFileBytesMax)
    return fail(ErrorCode::kConfig,
                fmt::format("{}: is longer than {}", file.string(), format_size(kFileBytesMax)));
  return parse(text, file.string(), overrides);
}

Result<std::filesystem::path> state_folder(const Config& config) {
  if (!config.state_dir.empty()) return std::filesystem::path{config.state_dir};
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::filesystem::path{value == nullptr ? "" : value};
  };
  // Relative paths in XDG variables are to be ignored, says their specification.
  if (const auto state = variable("XDG_STATE_HOME"); state.is_absolute())
    return state / "mlx-serving";
  if (const auto home = variable("HOME"); home.is_absolute())
    return home / ".local" / "state" / "mlx-serving";
  return fail(ErrorCode::kConfig,
              "[config] neither XDG_STATE_HOME nor HOME is set: give state_dir",
              "state_dir");
}

std::vector<std::string> restart_needed(const Config& before, const Config& after) {
  Config copy = after;
  return merge(before, copy);
}

Result<Config> reloaded(const Config& before, Config after) {
  merge(before, after);
  return parse(render(after), "in force after a reload");
}

}  // namespace mlxs::config
