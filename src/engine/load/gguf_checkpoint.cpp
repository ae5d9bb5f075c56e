#include "base/hash.h"
#include "engine/load/checkpoint.h"
#include "engine/load/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kHeadsMax = 1 << 20;

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr std::array<NamePair, 4> kGlobalNames = {{
    {"token_embd.", "model.embed_tokens."},
    {"output_norm.", "model.norm."},
    {"output.", "lm_head."},
    {"rope_freqs.", "rope_freqs."},
}};
constexpr std::array<NamePair, 15> kLayerNames = {{
    {"attn_norm.", "input_layernorm."},
    {"ffn_norm.", "post_attention_layernorm."},
    {"attn_q.", "self_attn.q_proj."},
    {"attn_k.", "self_attn.k_proj."},
    {"attn_v.", "self_attn.v_proj."},
    {"attn_output.", "self_attn.o_proj."},
    {"attn_q_norm.", "self_attn.q_norm."},
    {"attn_k_norm.", "self_attn.k_norm."},
    {"ffn_gate.", "mlp.gate_proj."},
    {"ffn_up.", "mlp.up_proj."},
    {"ffn_down.", "mlp.down_proj."},
    {"ffn_gate_inp.", "mlp.gate."},
    {"ffn_gate_exps.", "mlp.switch_mlp.gate_proj."},
    {"ffn_up_exps.", "mlp.switch_mlp.up_proj."},
    {"ffn_down_exps.", "mlp.switch_mlp.down_proj."},
}};
/// Gemma's, where they differ: a norm more behind each block.
constexpr std::array<NamePair, 3> kGemmaLayerNames = {{
    {"post_attention_norm.", "post_attention_layernorm."},
    {"ffn_norm.", "pre_feedforward_layernorm."},
    {"post_ffw_norm.", "post_feedforward_layernorm."},
}};
/// Architectures that GGUF spells otherwise than `model_type`.
constexpr std::array<NamePair, 2> kModelTypes = {{
    {"qwen3moe", "qwen3_moe"},
    {"gemma3", "gemma3_text"},
}};

template <class Pairs>
std::optional<std::string> renamed(std::string_view name, const Pairs& pairs) {
  for (const auto& [from, to] : pairs) {
    if (name.starts_with(from)) return std::string(to) + std::string(name.substr(from.size()));
  }
  return std::nullopt;
}

/// Hugging Face's name of a GGUF tensor; an unknown one keeps its own, and is refused as extra.
std::string hugging_face_name(const std::string& name, bool gemma) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return renamed(name, kGlobalNames).value_or(name);
  const auto dot = name.find('.', kBlock.size());
  if (dot == std::string::npos) return name;
  const std::string_view own = std::string_view(name).substr(dot + 1);
  auto rest = gemma ? renamed(own, kGemmaLayerNames) : std::nullopt;
  if (!rest) rest = renamed(own, kLayerNames);
  if (!rest) return name;
  return fmt::format("model.layers.{}.{}", name.substr(kBlock.size(), dot - kBlock.size()), *rest);
}

/// Copies metadata into configuration keys. Absent ones stay absent: the model's reader knows which
/// it needs, and names them.
class ConfigMaker {
 public:
  ConfigMaker(const Gguf& gguf, std::string architecture)
      : gguf_(gguf), architecture_(std::move(architecture)) {}

  void whole(std::string_view to, std::string_view from) {
    if (const auto value = gguf_.integer(key(from))) config[to] = *value;
  }
  void number(std::string_view to, std::string_view from) {
    if (const auto value = gguf_.number(key(from))) config[to] = *value;
  }
  [[nodiscard]] std::string key(std::string_view name) const {
    return fmt::format("{}.{}", architecture_, name);
  }

  boost::json::object config;

 private:
  const Gguf& gguf_;
  std::string architecture_;
};

bool is_gemma(std::string_view architecture) {
  return architecture == "gemma2" || architecture == "gemma3";
}

/// What gemma's scores are divided by the root of is not in the file. It is the width of a head,
/// but in the two models of 27 billion, which llama.cpp too knows by their layers, the hidden width
/// shared among the heads.
void set_gemma_divisor(ConfigMaker& maker, const Gguf& gguf) {
  const auto layers = gguf.integer(maker.key("block_count"));
  const auto width = gguf.integer(maker.key("embedding_length"));
  const auto heads = gguf.integer(maker.key("attention.head_count"));
  const bool large = layers == (maker.config["model_type"] == "gemma2" ? 46 : 62);
  if (large && width && heads && *heads > 0) {
    maker.config["query_pre_attn_scalar"] = *width / *heads;
  } else {
    maker.whole("query_pre_attn_scalar", "attention.key_length");
  }
}

Result<boost::json::object> make_config(const Gguf& gguf, const std::string& file) {
  const auto architecture = gguf.string("general.architecture");
  if (!architecture) {
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[gguf] {}: 'general.architecture' is missing", file));
  }
  ConfigMaker maker(gguf, std::string(*architecture));
  maker.config["model_type"] =
      renamed(*architecture, kModelTypes).value_or(std::string(*architecture));
  maker.whole("hidden_size", "embedding_length");
  maker.whole("num_hidden_layers", "block_count");
  maker.whole("intermediate_size", "feed_forward_length");
  maker.whole("num_attention_heads", "attention.head_count");
  maker.whole("num_key_value_heads", "attention.head_count_kv");
  maker.whole("head_dim", "attention.key_length");
  maker.whole("max_position_embeddings", "context_length");
  maker.number("rms_norm_eps", "attention.layer_norm_rms_epsilon");
  maker.number("rope_theta", "rope.freq_base");
  maker.number("rope_local_base_freq", "rope.freq_base_swa");
  maker.number("attn_logit_softcapping", "attn_logit_softcapping");
  maker.number("final_logit_softcapping", "final_logit_softcapping");
  maker.whole("sliding_window", "attention.sliding_window");
  maker.whole("num_experts", "expert_count");
  maker.whole("num_experts_per_tok", "expert_used_count");
  maker.whole("moe_intermediate_size", "expert_feed_forward_length");
  if (*architecture == "qwen3moe") maker.config["norm_topk_prob"] = true;  // As llama.cpp has it.
  if (is_gemma(*architecture)) set_gemma_divisor(maker, gguf);

  bool output = false;
  bool attention_bias = false;
  for (const TensorView& tensor : gguf.tensors()) {
    if (tensor.name == "output.weight") output = true;
    if (tensor.name == "blk.0.attn_q.bias") attention_bias = true;
    if (tensor.name == "token_embd.weight" && tensor.shape.size() == 2) {
      maker.config["vocab_size"] = tensor.shape.front();
    }
  }
  maker.config["tie_word_embeddings"] = !output;
  maker.config["attention_bias"] = attention_bias;

  const auto rotated = gguf.number(maker.key("rope.dimension_count"));
  const auto heads = gguf.number(maker.key("attention.head_count"));
  const auto width = gguf.number(maker.key("embedding_length"));
  if (rotated && heads && width && *heads > 0) {
    const double head_dim =
        gguf.number(maker.key("attention.key_length")).value_or(*width / *heads);
    maker.config["partial_rotary_factor"] = *rotated / head_dim;
  }
  const auto scaling = gguf.string(maker.key("rope.scaling.type"));
  if (scaling && *scaling != "none") {
    boost::json::object rope_scaling{{"rope_type", *scaling}};
    if (const auto factor = gguf.number(maker.key("rope.scaling.factor"))) {
      rope_scaling["factor"] = *factor;
    }
    if (const auto context = gguf.integer(maker.key("rope.scaling.original_context_length"))) {
      rope_scaling["original_max_position_embeddings"] = *context;
    }
    maker.config["rope_scaling"] = std::move(rope_scaling);
  }
  return std::move(maker.config);
}

std::string digest_of(const MappedFile& file, const Gguf& gguf) {
  std::string text(reinterpret_cast<const char*>(gguf.header().data()), gguf.header().size());
  text += fmt::format("\n{} {}\n", file.bytes().size(), file.modified_ns());
  return to_hex(sha256(text));
}

}  // namespace

Result<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto gguf = Gguf::parse(file->bytes(), path.string());
  if (!gguf) return gguf.error();

  Checkpoint checkpoint;
  checkpoint.config_file = path.string();
  auto config = make_config(*gguf, path.string());
  if (!config) return config.error();
  checkpoint.config = std::move(*config);
  checkpoint.digest = digest_of(*file, *gguf);

  const bool gemma = is_gemma(gguf->string("general.architecture").value_or(""));
  const bool interleaved = checkpoint.config["model_type"] == "llama";
  const auto head_count = [&](std::string_view key) {
    const auto count = gguf->integer(key).value_or(0);
    return count <= kHeadsMax ? count : 0;
  };
  const auto heads = head_count("llama.attention.head_count");
  const auto kv_heads = gguf->find("llama.attention.head_count_kv") == nullptr
                            ? heads
                            : head_count("llama.attention.head_count_kv");
  for (TensorView tensor : gguf->tensors()) {
    std::string name = hugging_face_name(tensor.name, gemma);
    tensor.one_added = gemma && name.ends_with("norm.weight");
    const bool query = name.find(".self_attn.q_proj.") != std::string::npos;
    const bool key = name.find(".self_attn.k_proj.") != std::string::npos;
    const auto tensor_heads = query ? heads : kv_heads;
    // A head count that does not divide the rows is left alone: the shape check speaks up.
    if (interleaved && (query || key) && !tensor.shape.empty() && tensor_heads > 0 &&
        tensor.shape.front() % (2 * tensor_heads) == 0) {
      tensor.interleaved_heads = static_cast<int>(tensor_heads);
    }
    checkpoint.tensors.emplace(std::move(name), std::move(tensor));
  }
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id",
                                     "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    const auto id = gguf->integer(key);
    if (!id || *id < 0 || *id > INT32_MAX) continue;
    const auto token = static_cast<TokenId>(*id);
    if (std::find(checkpoint.end_tokens.begin(), checkpoint.end_tokens.end(), token) ==
        checkpoint.end_tokens.end()) {
      checkpoint.end_tokens.push_back(token);
    }
  }
  checkpoint.files.push_back(std::move(*file));
  return checkpoint;
}

}  // namespace mlxs::engine
