#pragma once

// The text crate's C interface: tokenizers, incremental detokenization, chat templates.
//
// - Functions that can fail return whether they succeeded and always write `*error`: kind 0 on
//   success, else a kind and a sentence, which the caller frees with `mlxs_text_string_free`.
//   Results behind `out` are written on success only.
// - No panic or exception crosses this header: a panic becomes MLXS_TEXT_INTERNAL.
// - Views are borrowed for the call; a null `data` with `size` 0 is an empty one. Owned strings and
//   ids belong to the caller until the matching free function, which accepts empty ones.
// - Tokenizers and templates are immutable and may be used by any number of threads at once; a
//   detokenizer by one at a time. Free functions accept null.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mlxs_text_error_kind {
  MLXS_TEXT_OK = 0,
  MLXS_TEXT_INVALID_INPUT =
      1,                   ///< What a client sent: unknown ids, invalid JSON, refused messages.
  MLXS_TEXT_CORRUPT = 2,   ///< What a model file says: vocabulary, tokenizer.json, template.
  MLXS_TEXT_INTERNAL = 3,  ///< A fault of ours: a panic, stopped here.
} mlxs_text_error_kind;

/// Bytes borrowed from someone else.
typedef struct mlxs_text_view {
  const char* data;
  size_t size;
} mlxs_text_view;

/// UTF-8 text, owned by the caller.
typedef struct mlxs_text_string {
  char* data;
  size_t size;
} mlxs_text_string;

/// Token ids, owned by the caller.
typedef struct mlxs_text_ids {
  uint32_t* data;
  size_t size;
} mlxs_text_ids;

typedef struct mlxs_text_error {
  uint32_t kind;  ///< mlxs_text_error_kind
  mlxs_text_string message;
} mlxs_text_error;

void mlxs_text_string_free(mlxs_text_string string);
void mlxs_text_ids_free(mlxs_text_ids ids);

// ---- Tokenizer -------------------------------------------------------------------------------

typedef struct mlxs_text_tokenizer mlxs_text_tokenizer;

/// The text of a Hugging Face `tokenizer.json`.
bool mlxs_text_tokenizer_from_json(mlxs_text_view json,
                                   mlxs_text_tokenizer** out,
                                   mlxs_text_error* error);

/// A GGUF's `tokenizer.ggml.*` metadata.
typedef struct mlxs_text_gguf_vocabulary {
  mlxs_text_view model;
  mlxs_text_view pre;
  const mlxs_text_view* tokens;
  size_t tokens_count;
  const int32_t* token_types;
  size_t token_types_count;  ///< `tokens_count`, or 0: all normal.
  const mlxs_text_view* merges;
  size_t merges_count;
  int32_t bos;      ///< -1: none.
  int32_t add_bos;  ///< 1 yes, 0 no, -1 what the pre-tokenizer's models do.
} mlxs_text_gguf_vocabulary;

bool mlxs_text_tokenizer_from_gguf(const mlxs_text_gguf_vocabulary* vocabulary,
                                   mlxs_text_tokenizer** out,
                                   mlxs_text_error* error);
void mlxs_text_tokenizer_free(mlxs_text_tokenizer* tokenizer);

/// Invalid UTF-8 in `text` is replaced by U+FFFD.
bool mlxs_text_tokenizer_encode(const mlxs_text_tokenizer* tokenizer,
                                mlxs_text_view text,
                                bool add_special_tokens,
                                mlxs_text_ids* out,
                                mlxs_text_error* error);
/// An id at or above `vocab_size` is an error; one below it that no token has stands for nothing.
bool mlxs_text_tokenizer_decode(const mlxs_text_tokenizer* tokenizer,
                                const uint32_t* ids,
                                size_t count,
                                bool skip_special_tokens,
                                mlxs_text_string* out,
                                mlxs_text_error* error);
/// One more than the highest id.
size_t mlxs_text_tokenizer_vocab_size(const mlxs_text_tokenizer* tokenizer);
/// `*out` is -1 where no token is spelled so.
bool mlxs_text_tokenizer_token_id(const mlxs_text_tokenizer* tokenizer,
                                  mlxs_text_view token,
                                  int32_t* out,
                                  mlxs_text_error* error);
/// The bytes that `id` stands for apart from its neighbours, perhaps part of a character; special
/// tokens as they are spelled. None for an id that no token has.
bool mlxs_text_tokenizer_token_bytes(const mlxs_text_tokenizer* tokenizer,
                                     uint32_t id,
                                     mlxs_text_string* out,
                                     mlxs_text_error* error);
/// The tokenizer as a `tokenizer.json`; equal tokenizers give equal text.
bool mlxs_text_tokenizer_json(const mlxs_text_tokenizer* tokenizer,
                              mlxs_text_string* out,
                              mlxs_text_error* error);

// ---- Detokenizer -----------------------------------------------------------------------------

/// Ids in, text out. What all calls give, put together, is `decode` of all ids with special tokens
/// skipped. Keeps the tokenizer alive.
typedef struct mlxs_text_detokenizer mlxs_text_detokenizer;

bool mlxs_text_detokenizer_new(const mlxs_text_tokenizer* tokenizer,
                               mlxs_text_detokenizer** out,
                               mlxs_text_error* error);
void mlxs_text_detokenizer_free(mlxs_text_detokenizer* detokenizer);

/// `*out` is valid UTF-8, often empty, and borrowed until the detokenizer's next call. An id
/// outside the vocabulary adds nothing: a model's output may be wider than its vocabulary.
bool mlxs_text_detokenizer_push(mlxs_text_detokenizer* detokenizer,
                                uint32_t id,
                                mlxs_text_view* out,
                                mlxs_text_error* error);
/// What is still withheld, as `push` gives it. The detokenizer is as new afterwards.
bool mlxs_text_detokenizer_finish(mlxs_text_detokenizer* detokenizer,
                                  mlxs_text_view* out,
                                  mlxs_text_error* error);

// ---- Chat template ---------------------------------------------------------------------------

typedef struct mlxs_text_template mlxs_text_template;

/// `bos_token` and `eos_token` may be empty: then the template finds them undefined.
bool mlxs_text_template_compile(mlxs_text_view source,
                                mlxs_text_view bos_token,
                                mlxs_text_view eos_token,
                                mlxs_text_template** out,
                                mlxs_text_error* error);
void mlxs_text_template_free(mlxs_text_template* chat_template);

/// `messages` and `tools` are JSON arrays, `arguments` a JSON object; the latter two may be empty.
/// `now` is in seconds since 1970, UTC. When the template raises an exception, the message is what
/// it says.
bool mlxs_text_template_render(const mlxs_text_template* chat_template,
                               mlxs_text_view messages,
                               mlxs_text_view tools,
                               mlxs_text_view arguments,
                               bool add_generation_prompt,
                               int64_t now,
                               mlxs_text_string* out,
                               mlxs_text_error* error);

#ifdef __cplusplus
}
#endif
