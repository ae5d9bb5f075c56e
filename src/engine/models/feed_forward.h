#pragma once

#include "engine/load/weights.h"
#include "engine/models/decoder_spec.h"

#include <mlx/array.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace mlxs::engine {

/// The gated feed-forward block of a layer.
class GatedMlp {
 public:
  /// Asks for tensors named `prefix` + "gate_proj.weight" and so on.
  GatedMlp(const FeedForwardSpec& spec,
           int hidden_size,
           const std::string& prefix,
           WeightReader& weights);

  /// x [T, hidden_size] → [T, hidden_size]
  [[nodiscard]] mlx::core::array operator()(const mlx::core::array& x) const;

  [[nodiscard]] const std::vector<Weight>& gate_up() const { return gate_up_; }
  [[nodiscard]] const Weight& down() const { return down_; }
  [[nodiscard]] const std::optional<mlx::core::array>& gate_up_bias() const {
    return gate_up_bias_;
  }
  [[nodiscard]] const std::optional<mlx::core::array>& down_bias() const { return down_bias_; }

 private:
  Activation activation_;
  std::vector<Weight> gate_up_;
  Weight down_;
  std::optional<mlx::core::array> gate_up_bias_;
  std::optional<mlx::core::array> down_bias_;
};

/// A layer's feed-forward block with experts: a router picks some for each token, whose results are
/// summed by their shares.
class ExpertMlp {
 public:
  /// Asks for the router under `prefix` + "gate.weight", and for experts as
  /// `WeightReader::experts` does.
  ExpertMlp(const FeedForwardSpec& spec,
            int hidden_size,
            const std::string& prefix,
            WeightReader& weights);

  /// x [T, hidden_size] → [T, hidden_size]
  [[nodiscard]] mlx::core::array operator()(const mlx::core::array& x) const;

  [[nodiscard]] const Weight& router() const { return router_; }
  [[nodiscard]] const std::vector<Weight>& gate_up() const { return gate_up_; }
  [[nodiscard]] const std::vector<Weight>& down() const { return down_; }

 private:
  [[nodiscard]] mlx::core::array apply(const mlx::core::array& rows,
                                       const mlx::core::array& experts,
                                       bool sorted) const;

  FeedForwardSpec spec_;
  Weight router_;
  std::vector<Weight> gate_up_;
  std::vector<Weight> down_;
};

using FeedForward = std::variant<GatedMlp, ExpertMlp>;

/// The block that `spec` describes.
[[nodiscard]] FeedForward make_feed_forward(const FeedForwardSpec& spec,
                                            int hidden_size,
                                            const std::string& prefix,
                                            WeightReader& weights);

}  // namespace mlxs::engine
