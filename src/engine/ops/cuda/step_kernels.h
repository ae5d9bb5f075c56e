#pragma once

// Arguments of the kernels that compute a whole decode step, as host and device see them.
// Activations are bfloat16, residuals, sums and logits float32. Strides count elements.
//
// A product whose output has few features is split over its inputs too: it leaves `splits` partial
// results [split, token, feature], which the kernel after it adds up while it does its own work.

namespace mlxs::engine::cuda {

inline constexpr int kStepTokensMax = 512;  ///< More are left to the layers' own operations.
inline constexpr int kTokenTilesMax = 16;   ///< Of eight tokens, in one go; more go in turns.
inline constexpr int kFeatureTile = 64;     ///< Features a thread block of a product computes.
inline constexpr int kInputTile = 64;       ///< Inputs it takes in one go.

/// How many tiles of inputs are under way in a product of `tiles` · 8 tokens.
constexpr int product_stages(int tiles) { return tiles <= 4 ? 5 : tiles == 8 ? 4 : 3; }
constexpr unsigned product_shared_bytes(int tiles) {
  return static_cast<unsigned>(product_stages(tiles) * (kFeatureTile + tiles * 8) *
                               (kInputTile + 8) * 2);
}

/// Rows of an embedding into residuals, and the first norm of them.
struct EmbedArgs {
  const int* tokens;
  const void* table;  ///< [vocabulary, width]
  const void* norm;   ///< [width]
  float* residual;    ///< [tokens, width]
  void* out;          ///< [tokens, width]
  int width;
  float scale, eps;
};

/// residual += the sum of partials; out = its norm. Row i of `out` is token rows[i], or i.
struct AddNormArgs {
  const float* partials;  ///< [splits, tokens, width]
  float* residual;        ///< [tokens, width]
  const void* norm;
  void* out;
  const int* rows;  ///< Null: every token.
  int tokens, width, splits;
  float eps;
};

/// y = x·wᵀ. One thread block: 64 features, all tokens, a split's inputs; with experts: 64 features
/// of one expert, the tokens that chose it.
struct ProductArgs {
  const void* x = nullptr;    ///< [tokens, inputs]
  const void* w = nullptr;    ///< [features, inputs], for each expert
  float* partials = nullptr;  ///< [splits, tokens, features]; with experts [slot, token, features].
  void* gated =
      nullptr;  ///< Instead: silu(gate)·up, [rows, features/2]; features are gate, then up.
  int tokens = 0, features = 0, inputs = 0;
  int tiles_per_split = 0;
  // With experts. A row is a token's slot: token · each + slot.
  const int* expert_begin = nullptr;  ///< [experts + 1]: where its rows begin in `expert_rows`.
  const int* expert_rows = nullptr;
  const float* shares = nullptr;  ///< [rows]: what a result is multiplied by; null: nothing.
  int each = 0;                   ///< Experts a token chooses; 0: no experts.
  bool x_by_row = false;          ///< x has a row a slot, not a token.
};

/// Sums a fused query, key and value product, normalises and turns its heads, and puts keys and
/// values into the pool. One warp a head.
struct HeadsArgs {
  const float* partials;  ///< [splits, tokens, (heads + 2·kv_heads)·width]
  const void* bias;       ///< Null: none.
  const void* query_norm;
  const void* key_norm;  ///< Null: none.
  const float* freqs;    ///< [width/2]
  const int* positions;
  const int* slots;
  void* queries;  ///< [tokens, heads, width]
  void* keys;     ///< The pool's.
  void* values;
  int tokens, splits, heads, kv_heads, width, block_tokens;
  float eps, rope_scale;
};

/// Chooses each token's experts and sorts rows by expert. One thread block.
struct RouteArgs {
  const float* partials;  ///< [splits, tokens, experts]: router logits
  int tokens, splits, experts, each;
  bool normalised;    ///< Shares add up to one.
  float* shares;      ///< [tokens · each]
  int* expert_begin;  ///< [experts + 1]
  int* expert_rows;   ///< [tokens · each]
};

}  // namespace mlxs::engine::cuda
