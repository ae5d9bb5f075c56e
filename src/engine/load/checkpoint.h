#pragma once

#include "base/result.h"
#include "engine/load/mapped_file.h"
#include "engine/load/tensor.h"
#include "engine/types.h"

#include <boost/json/object.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mlxs::engine {

/// A model on disk in one form, whatever its file format: configuration with Hugging Face's keys
/// and tensors under Hugging Face's names. Owns the mappings its tensors point into.
struct Checkpoint {
  boost::json::object config;      ///< As config.json; made from the metadata of a GGUF.
  boost::json::object generation;  ///< As generation_config.json; may be empty.
  std::string config_file;         ///< Where `config` came from, for messages.
  std::map<std::string, TensorView, std::less<>> tensors;
  std::vector<TokenId> end_tokens;
  std::string digest;  ///< Hex SHA-256 over configuration, tensor headers, sizes, mtimes.
  std::vector<MappedFile> files;
};

/// Opens a .gguf file, or a folder with config.json and safetensors (one file, or shards listed by
/// model.safetensors.index.json). Reads headers only. Errors as `load_runner`'s.
[[nodiscard]] Result<Checkpoint> open_checkpoint(const std::filesystem::path& source);

/// The two forms behind it.
[[nodiscard]] Result<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& file);
[[nodiscard]] Result<Checkpoint> open_folder_checkpoint(const std::filesystem::path& folder);

/// Whether `source` is taken for a GGUF file: anything that is not a folder.
[[nodiscard]] bool is_gguf_source(const std::filesystem::path& source);

}  // namespace mlxs::engine
