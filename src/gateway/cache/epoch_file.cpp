#include "gateway/cache/epoch_file.h"

#include "base/file_lock.h"
#include "base/hash.h"
#include "base/ids.h"
#include "gateway/cache/durable_file.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>
#include <utility>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;

constexpr std::string_view kFirstLine = "mlx-serving epochs 1 ";
constexpr std::size_t kFileBytesMax = 16U << 20;

template <class Map, class Spell>
json::object counts(const Map& map, const Spell& spell) {
  json::object object;
  for (const auto& [name, count] : map) object[spell(name)] = count;
  return object;
}

std::optional<std::uint64_t> number(const json::value* value) {
  if (value == nullptr) return std::nullopt;
  boost::system::error_code bad;
  const auto count = value->to_number<std::uint64_t>(bad);
  return bad ? std::nullopt : std::optional{count};
}

// False for anything that `to_text` does not write.
template <class Map, class Read>
bool read_counts(const json::object& from, std::string_view key, Map& into, const Read& read) {
  const json::value* value = from.if_contains(key);
  if (value == nullptr || !value->is_object()) return false;
  for (const auto& [name, entry] : value->get_object()) {
    const auto count = number(&entry);
    const auto read_name = read(std::string_view{name.data(), name.size()});
    if (!count || !read_name) return false;
    into[*read_name] = *count;
  }
  return true;
}

std::optional<std::string> as_text(std::string_view name) { return std::string{name}; }

Error corrupt() {
  return fail(ErrorCode::kCorruptFile, "[epochs] the file is damaged or of another version");
}

}  // namespace

EpochState new_epochs() { return {.lineage = random_id("")}; }

std::string to_text(const EpochState& state) {
  const auto same = [](const std::string& name) { return name; };
  json::object object;
  object["lineage"] = state.lineage;
  object["count"] = state.count;
  object["all"] = state.all;
  object["tenants"] = counts(state.tenants, same);
  object["models"] = counts(state.models, same);
  object["keys"] = counts(state.keys, [](const Sha256& key) { return to_hex(key); });
  const std::string body = json::serialize(object);
  return fmt::format("{}{}\n{}\n", kFirstLine, to_hex(sha256(body)), body);
}

Result<EpochState> epochs_from_text(std::string_view text) {
  const std::size_t line_end = text.find('\n');
  if (!text.starts_with(kFirstLine) || line_end == std::string_view::npos || !text.ends_with('\n'))
    return corrupt();
  const std::string_view checksum = text.substr(kFirstLine.size(), line_end - kFirstLine.size());
  text.remove_prefix(line_end + 1);
  if (text.empty()) return corrupt();
  text.remove_suffix(1);
  if (to_hex(sha256(text)) != checksum) return corrupt();
  boost::system::error_code bad;
  const json::value value = json::parse(text, bad);
  if (bad || !value.is_object()) return corrupt();
  const json::object& object = value.get_object();
  const json::value* lineage = object.if_contains("lineage");
  const auto count = number(object.if_contains("count"));
  const auto all = number(object.if_contains("all"));
  if (lineage == nullptr || !lineage->is_string() || !count || !all) return corrupt();
  EpochState state{.lineage = std::string{lineage->get_string()}, .count = *count, .all = *all};
  if (!read_counts(object, "tenants", state.tenants, as_text) ||
      !read_counts(object, "models", state.models, as_text) ||
      !read_counts(object, "keys", state.keys, sha256_from_hex))
    return corrupt();
  return state;
}

Result<EpochState> EpochFile::load() const {
  const auto text = read_file(path(), kFileBytesMax);
  if (!text && text.error().code == ErrorCode::kNotFound) return new_epochs();
  if (!text) return text.error();
  return epochs_from_text(*text);
}

Result<void> EpochFile::save(Epochs& epochs, const std::optional<FlushScope>& flushed) const {
  MLXS_TRY(make_folder(folder_));
  const auto lock = FileLock::take(folder_ / "epochs.lock", 0600, cancelled_);
  if (!lock) return lock.error();
  if (const auto text = read_file(path(), kFileBytesMax)) {
    if (auto others = epochs_from_text(*text)) {
      const bool behind = others->count >= static_cast<std::uint64_t>(epochs.now());
      epochs.merge(*others);
      if (behind && flushed) epochs.flush(*flushed);
    } else {
      spdlog::error("{}: {}; written anew", others.error().message, path().string());
    }
  }
  auto file = DurableFile::create(path());
  if (!file) return file.error();
  MLXS_TRY(file->write(to_text(epochs.state())));
  return file->commit();
}

}  // namespace mlxs::gateway
