#pragma once

#include "base/result.h"
#include "engine/types.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// A GGUF's own vocabulary, as its metadata gives it.
struct GgufVocabulary {
  std::string model;  ///< tokenizer.ggml.model: "gpt2" (byte-level BPE) is supported.
  std::string pre;    ///< tokenizer.ggml.pre: names a pre-tokenizer.
  std::vector<std::string> tokens;
  std::vector<std::int32_t>
      token_types;  ///< 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte
  std::vector<std::string> merges;
  std::vector<float> scores;
  TokenId bos = -1;  ///< -1: none.
  TokenId eos = -1;
  std::optional<bool> add_bos = {};  ///< Absent: what the pre-tokenizer's own models do.
  bool add_space_prefix = true;      ///< SentencePiece files only.
};

/// Text to token ids and back, exactly as Hugging Face `tokenizers` does. Immutable; any thread.
class Tokenizer {
 public:
  /// From a Hugging Face `tokenizer.json`. kCorruptFile names the file and the reason.
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> from_file(
      const std::filesystem::path& path);
  /// kCorruptFile on an unknown model or pre-tokenizer name, or inconsistent lists.
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> from_gguf(
      const GgufVocabulary& vocabulary);
  ~Tokenizer();

  /// `add_special_tokens`: what the post-processor adds (a leading BOS, mostly). Special tokens
  /// spelled out in `text` become their ids either way. Invalid UTF-8 is replaced by U+FFFD.
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text,
                                                    bool add_special_tokens) const;
  /// Unknown ids are an error (kInvalidRequest).
  [[nodiscard]] Result<std::string> decode(std::span<const TokenId> ids,
                                           bool skip_special_tokens) const;
  /// One more than the highest id, added tokens included. Ids below it that no token has decode
  /// to nothing.
  [[nodiscard]] int vocab_size() const;
  /// Id of a token by its exact spelling, -1 if there is none.
  [[nodiscard]] TokenId token_id(std::string_view token) const;
  /// The bytes that a token stands for apart from its neighbours, perhaps part of a character;
  /// special tokens as they are spelled. Empty for an id that no token has.
  [[nodiscard]] std::string token_bytes(TokenId id) const;
  /// Hex SHA-256 of the tokenizer's canonical JSON.
  [[nodiscard]] const std::string& digest() const;

 private:
  friend class StreamDecoder;
  struct Impl;  // tokenizer_impl.h
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Ids in, text out, a step at a time: the concatenation equals `decode` of all ids with special
/// tokens skipped, every piece is valid UTF-8, and no character is split (bytes that never complete
/// a character come out as U+FFFD with the piece that proves it, or from `finish`).
/// Time and memory per token are bounded. One thread at a time; the tokenizer outlives it.
/// One exception, for vocabularies that fall back to byte tokens: `decode` replaces every byte of a
/// run that is invalid anywhere, while here the characters before the invalid place are out
/// already.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  /// An id outside the vocabulary adds nothing: a model's output may be wider than that.
  [[nodiscard]] Result<std::string> push(TokenId id);
  /// What is still withheld.
  [[nodiscard]] Result<std::string> finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxs::engine
