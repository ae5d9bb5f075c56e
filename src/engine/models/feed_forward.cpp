#include "engine/models/feed_forward.h"

#include "engine/ops/gated.h"
#include "engine/ops/linear.h"
#include "engine/ops/route.h"

#include <mlx/ops.h>

#include <algorithm>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

std::vector<WeightReader::Part> gate_up_parts(const FeedForwardSpec& spec,
                                              const std::string& prefix) {
  return {{prefix + "gate_proj", spec.intermediate_size},
          {prefix + "up_proj", spec.intermediate_size}};
}

}  // namespace

GatedMlp::GatedMlp(const FeedForwardSpec& spec,
                   int hidden_size,
                   const std::string& prefix,
                   WeightReader& weights)
    : activation_(spec.activation),
      gate_up_(weights.matrices(gate_up_parts(spec, prefix), hidden_size)),
      down_(weights.matrix({prefix + "down_proj", hidden_size}, spec.intermediate_size)) {
  if (!spec.bias) return;
  gate_up_bias_ = weights.bias(gate_up_parts(spec, prefix));
  down_bias_ = weights.bias({{prefix + "down_proj", hidden_size}});
}

mx::array GatedMlp::operator()(const mx::array& x) const {
  return linear(gated(linear(x, gate_up_, gate_up_bias_), activation_), down_, down_bias_);
}

ExpertMlp::ExpertMlp(const FeedForwardSpec& spec,
                     int hidden_size,
                     const std::string& prefix,
                     WeightReader& weights)
    : spec_(spec),
      router_(weights.matrix({prefix + "gate", spec.experts}, hidden_size)),
      gate_up_(weights.experts(prefix, gate_up_parts(spec, ""), spec.experts, hidden_size)),
      down_(weights.experts(
          prefix, {{"down_proj", hidden_size}}, spec.experts, spec.intermediate_size)) {}

mx::array ExpertMlp::apply(const mx::array& rows, const mx::array& experts, bool sorted) const {
  const mx::array inner = gated(expert_linear(rows, gate_up_, experts, sorted), spec_.activation);
  return expert_linear(inner, down_, experts, sorted);
}

mx::array ExpertMlp::operator()(const mx::array& x) const {
  const Routes choice = route(linear(x, router_), spec_.experts_per_token, spec_.normalised_scores);
  const int tokens = x.shape(0);
  const int each = spec_.experts_per_token;
  // Rows of one expert next to each other let its matrices be read once. Sorting by expert takes
  // six operations, which fewer rows than these don't earn back. Products of packed weights bring
  // them together themselves.
  constexpr int kRowsToSort = 64;
  const auto packed = [](const Weight& weight) { return weight.packed != nullptr; };
  const bool sorts_itself =
      std::ranges::all_of(gate_up_, packed) && std::ranges::all_of(down_, packed);
  const mx::array flat = mx::flatten(choice.experts);
  const mx::array width(each, flat.dtype());
  mx::array out = x;
  if (tokens * each >= kRowsToSort && !sorts_itself) {
    const mx::array order = mx::argsort(flat);
    const mx::array rows = mx::take(x, mx::floor_divide(order, width), 0);
    out = mx::take(apply(rows, mx::take(flat, order, 0), true), mx::argsort(order), 0);
  } else {
    out = apply(mx::repeat(x, each, 0), flat, false);
  }
  // [T, 1, each] · [T, each, hidden_size]
  const mx::array by_token = mx::reshape(out, {tokens, each, x.shape(1)});
  return mx::squeeze(mx::matmul(mx::expand_dims(choice.shares, 1), by_token), 1);
}

FeedForward make_feed_forward(const FeedForwardSpec& spec,
                              int hidden_size,
                              const std::string& prefix,
                              WeightReader& weights) {
  if (spec.experts > 0) return ExpertMlp(spec, hidden_size, prefix, weights);
  return GatedMlp(spec, hidden_size, prefix, weights);
}

}  // namespace mlxs::engine
