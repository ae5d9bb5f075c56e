#include "engine/load/checkpoint.h"

#include "base/hash.h"
#include "engine/load/config_reader.h"
#include "engine/load/safetensors.h"

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{16} << 20;
constexpr std::size_t kIndexBytesMax = std::size_t{64} << 20;

Result<boost::json::object> read_json(const std::filesystem::path& path, std::size_t bytes_max) {
  auto text = read_small_file(path, bytes_max);
  if (!text) return text.error();
  return parse_json_object(*text, path.string());
}

/// The files that hold the tensors: what the index lists, else the one file there is.
Result<std::set<std::string>> shard_names(const std::filesystem::path& folder) {
  const auto index_path = folder / "model.safetensors.index.json";
  if (!std::filesystem::exists(index_path)) return std::set<std::string>{"model.safetensors"};
  auto index = read_json(index_path, kIndexBytesMax);
  if (!index) return index.error();
  const auto* map = index->if_contains("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[checkpoint] {}: 'weight_map' is missing", index_path.string()));
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->get_object()) {
    const std::string name = file.is_string() ? std::string(file.get_string()) : "";
    // The index may name files of its own folder only.
    if (name.empty() || name == ".." || name.find('/') != std::string::npos) {
      return fail(ErrorCode::kCorruptFile,
                  fmt::format("[checkpoint] {}: tensor '{}' is in no file of this folder",
                              index_path.string(),
                              std::string_view(tensor)));
    }
    names.insert(name);
  }
  return names;
}

/// A number or a list of numbers, as `eos_token_id` comes.
std::vector<TokenId> token_ids(const boost::json::object& config) {
  std::vector<TokenId> ids;
  const auto* value = config.if_contains("eos_token_id");
  if (value == nullptr) return ids;
  const auto add = [&ids](const boost::json::value& id) {
    if (id.is_int64() && id.get_int64() >= 0 && id.get_int64() <= INT32_MAX) {
      ids.push_back(static_cast<TokenId>(id.get_int64()));
    }
  };
  if (value->is_array()) {
    for (const auto& id : value->get_array()) add(id);
  } else {
    add(*value);
  }
  return ids;
}

/// Of a model that sees, what reads: its text part under the names it has alone. Gemma 3 comes so.
void keep_text_part(Checkpoint& checkpoint) {
  const auto* text = checkpoint.config.if_contains("text_config");
  if (text == nullptr || !text->is_object()) return;
  boost::json::object config = text->get_object();
  for (const char* key : {"model_type", "quantization", "tie_word_embeddings", "eos_token_id"}) {
    if (const auto* value = checkpoint.config.if_contains(key)) config[key] = *value;
  }
  checkpoint.config = std::move(config);
  std::map<std::string, TensorView, std::less<>> tensors;
  for (auto& [name, tensor] : checkpoint.tensors) {
    constexpr std::pair<std::string_view, std::string_view> kPrefixes[] = {
        {"language_model.", ""},
        {"model.language_model.", "model."},
        {"lm_head.", "lm_head."},
    };
    for (const auto& [from, to] : kPrefixes) {
      if (!name.starts_with(from)) continue;
      tensors.emplace(std::string(to) + name.substr(from.size()), std::move(tensor));
      break;
    }
  }
  checkpoint.tensors = std::move(tensors);
}

/// Adds one shard's tensors and its part of the digest's text.
Result<void> add_shard(const std::filesystem::path& path,
                       Checkpoint& checkpoint,
                       std::string& digest_text) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto shard = parse_safetensors(file->bytes(), path.string());
  if (!shard) return shard.error();
  digest_text.append(reinterpret_cast<const char*>(shard->header.data()), shard->header.size());
  digest_text += fmt::format(
      "\n{} {} {}\n", path.filename().string(), file->bytes().size(), file->modified_ns());
  for (TensorView& tensor : shard->tensors) {
    std::string name = tensor.name;
    const auto [at, added] = checkpoint.tensors.emplace(std::move(name), std::move(tensor));
    if (!added) {
      return fail(ErrorCode::kCorruptFile,
                  fmt::format("[checkpoint] tensor '{}' is in {} and in {}",
                              at->first,
                              at->second.file,
                              path.string()));
    }
  }
  checkpoint.files.push_back(std::move(*file));
  return {};
}

}  // namespace

bool is_gguf_source(const std::filesystem::path& source) {
  std::error_code ignored;
  return !std::filesystem::is_directory(source, ignored);
}

Result<Checkpoint> open_checkpoint(const std::filesystem::path& source) {
  return is_gguf_source(source) ? open_gguf_checkpoint(source) : open_folder_checkpoint(source);
}

Result<Checkpoint> open_folder_checkpoint(const std::filesystem::path& folder) {
  Checkpoint checkpoint;
  const auto config_path = folder / "config.json";
  checkpoint.config_file = config_path.string();
  auto config_text = read_small_file(config_path, kConfigBytesMax);
  if (!config_text) return config_text.error();
  auto config = parse_json_object(*config_text, checkpoint.config_file);
  if (!config) return config.error();
  checkpoint.config = std::move(*config);

  std::string digest_text = *config_text;
  const auto generation_path = folder / "generation_config.json";
  if (std::filesystem::exists(generation_path)) {
    auto generation = read_json(generation_path, kConfigBytesMax);
    if (!generation) return generation.error();
    checkpoint.generation = std::move(*generation);
  }
  checkpoint.end_tokens = token_ids(checkpoint.generation);
  if (checkpoint.end_tokens.empty()) checkpoint.end_tokens = token_ids(checkpoint.config);

  const auto names = shard_names(folder);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    MLXS_TRY(add_shard(folder / name, checkpoint, digest_text));
  }
  checkpoint.digest = to_hex(sha256(digest_text));
  keep_text_part(checkpoint);
  return checkpoint;
}

}  // namespace mlxs::engine
