#include "engine/ops/cuda/attention.h"

#include "engine/ops/cuda/kernels.h"
#include "engine/ops/cuda/module.h"

#include <fmt/format.h>
#include <mlx/allocator.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine::cuda {

namespace mx = mlx::core;

namespace {

constexpr int kSplitPositions = 256;  // At least, for a piece of a row: putting two together costs.
constexpr int kBlocksWanted = 2 * 132;  // Thread blocks that fill an H100 twice.

template <class T>
mx::array to_array(const std::vector<T>& values) {
  constexpr int kInts = sizeof(T) / sizeof(std::int32_t);
  const auto* first = reinterpret_cast<const std::int32_t*>(values.data());
  return mx::array(first, mx::Shape{static_cast<int>(values.size()), kInts}, mx::int32);
}

AttentionPieces cut(const AttentionPlan& plan, int group, int kv_heads) {
  const int tile = kQueryTile / group;
  int tiles = 0;
  for (const AttentionPlan::Row& row : plan.rows()) tiles += (row.q_len + tile - 1) / tile;
  const int splits_wanted = std::max(1, kBlocksWanted / (tiles * kv_heads));

  std::vector<AttentionPiece> pieces;
  std::vector<AttentionMerge> merges;
  std::vector<std::int32_t> table;
  int partials = 0;
  for (const AttentionPlan::Row& row : plan.rows()) {
    const int begins = static_cast<int>(table.size());
    table.insert(table.end(), row.blocks.begin(), row.blocks.end());
    for (int i = 0; i < row.q_len; i += tile) {
      const int tokens = std::min(tile, row.q_len - i);
      const int position = row.kv_len - row.q_len + i;
      const int length = position + tokens;
      const int splits =
          std::clamp((length + kSplitPositions - 1) / kSplitPositions, 1, splits_wanted);
      const int share = ((length + splits - 1) / splits + kKeyTile - 1) / kKeyTile * kKeyTile;
      const int used = (length + share - 1) / share;
      if (used > 1) merges.push_back({row.q_start + i, tokens, partials, used});
      for (int s = 0; s < used; ++s)
        pieces.push_back({.token = row.q_start + i,
                          .tokens = tokens,
                          .position = position,
                          .kv_begin = s * share,
                          .kv_end = std::min((s + 1) * share, length),
                          .table = begins,
                          .partial = used > 1 ? partials++ : -1,
                          .unused = 0});
    }
  }
  const int count = static_cast<int>(pieces.size());
  const int merge_count = static_cast<int>(merges.size());
  if (merges.empty()) merges.push_back({});  // An array of no elements has no address.
  return {to_array(pieces), to_array(table), to_array(merges), count, merge_count, partials};
}

const char* type_name(mx::Dtype dtype) { return dtype == mx::bfloat16 ? "bfloat16" : "float16"; }

/// inputs: q, keys, values, pieces, table, merges.
class Attention : public mx::UnaryPrimitive {
 public:
  Attention(mx::Stream stream,
            const AttentionParams& params,
            std::shared_ptr<const AttentionPieces> pieces)
      : UnaryPrimitive(stream), params_(params), pieces_(std::move(pieces)) {}

  void eval_gpu(const std::vector<mx::array>& inputs, mx::array& out) override {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    record_attention(stream(),
                     inputs[0],
                     {inputs[1], inputs[2]},
                     *pieces_,
                     {inputs[3], inputs[4], inputs[5]},
                     params_,
                     out);
  }
  void eval_cpu(const std::vector<mx::array>&, mx::array&) override {
    throw std::logic_error("an operation made for a GPU was given to the CPU");
  }
  const char* name() const override { return "mlxs::cuda::Attention"; }

 private:
  AttentionParams params_;
  std::shared_ptr<const AttentionPieces> pieces_;
};

}  // namespace

void record_attention(const mx::Stream& stream,
                      const mx::array& q,
                      const KvLayer& kv,
                      const AttentionPieces& pieces,
                      const std::array<mx::array, 3>& indices,
                      const AttentionParams& params,
                      mx::array& out) {
  const int width = q.shape(2);
  const int kv_heads = kv.keys.shape(1);
  if (q.strides(2) != 1 || q.strides(0) % 8 != 0 || q.strides(1) % 8 != 0)
    throw std::logic_error("[attention] queries are not laid out in words of 16 bytes");
  auto& encoder = mx::cu::get_command_encoder(stream);
  encoder.set_input_array(q);
  encoder.set_input_array(kv.keys);
  encoder.set_input_array(kv.values);
  for (const mx::array& index : indices) encoder.set_input_array(index);
  encoder.set_output_array(out);
  const std::size_t scratch = static_cast<std::size_t>(pieces.partials) *
                              static_cast<std::size_t>(kv_heads * kQueryTile * (width + 2));
  mx::array partials({static_cast<int>(scratch)}, mx::float32, nullptr, {});
  if (pieces.partials > 0) {
    partials.set_data(mx::allocator::malloc(partials.nbytes()));
    encoder.add_temporary(partials);
    encoder.set_output_array(partials);
  }
  const AttentionArgs args{.q = device_data<const void>(q),
                           .keys = device_data<const void>(kv.keys),
                           .values = device_data<const void>(kv.values),
                           .out = device_data(out),
                           .pieces = device_data<const AttentionPiece>(indices[0]),
                           .table = device_data<const int>(indices[1]),
                           .partials = pieces.partials > 0 ? device_data<float>(partials) : nullptr,
                           .q_token_stride = q.strides(0),
                           .q_head_stride = q.strides(1),
                           .heads = q.shape(1),
                           .kv_heads = kv_heads,
                           .block_tokens = kv.keys.shape(2),
                           .scale = params.scale,
                           .softcap = params.softcap,
                           .window = params.window};
  const unsigned shared = attention_shared_bytes(width);
  const std::string suffix = fmt::format("{}_{}", type_name(q.dtype()), width);
  const auto heads = static_cast<unsigned>(kv_heads);
  launch(encoder,
         kernel(stream, ("attention_" + suffix).c_str(), shared),
         dim3{static_cast<unsigned>(pieces.count), heads, 1},
         dim3{kAttentionWarps * 32, 1, 1},
         shared,
         args);
  if (pieces.partials == 0) return;
  encoder.set_input_array(partials);
  encoder.set_input_array(indices[2]);
  encoder.set_output_array(out);
  launch(encoder,
         kernel(stream, ("attention_merge_" + suffix).c_str()),
         dim3{static_cast<unsigned>(pieces.merge_count), heads, 1},
         dim3{256, 1, 1},
         0,
         AttentionMergeArgs{.partials = args.partials,
                            .out = args.out,
                            .merges = device_data<const AttentionMerge>(indices[2]),
                            .heads = args.heads,
                            .kv_heads = kv_heads});
}

bool can_attention(mx::Dtype dtype, int heads, int kv_heads, int width) {
  return mx::default_device() == mx::Device::gpu &&
         (dtype == mx::bfloat16 || dtype == mx::float16) &&
         (width == 64 || width == 128 || width == 256) && heads / kv_heads <= kQueryTile;
}

bool can_attention(const mx::array& q, const KvLayer& kv) {
  return can_attention(q.dtype(), q.shape(1), kv.keys.shape(1), q.shape(2)) &&
         kv.keys.dtype() == q.dtype() && kv.keys.shape(2) % kKeyTile == 0;
}

std::shared_ptr<const AttentionPieces> attention_pieces(
    const std::shared_ptr<const AttentionPlan>& plan, int heads, int kv_heads) {
  return plan->for_backend<AttentionPieces>([&] { return cut(*plan, heads / kv_heads, kv_heads); });
}

mx::array attention(const mx::array& q,
                    const KvLayer& kv,
                    const std::shared_ptr<const AttentionPlan>& plan,
                    const AttentionParams& params) {
  const auto pieces = attention_pieces(plan, q.shape(1), kv.keys.shape(1));
  return mx::array(q.shape(),
                   q.dtype(),
                   std::make_shared<Attention>(mx::default_stream(mx::Device::gpu), params, pieces),
                   {q, kv.keys, kv.values, pieces->pieces, pieces->table, pieces->merges});
}

}  // namespace mlxs::engine::cuda
