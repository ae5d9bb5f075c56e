#include "base/assert.h"
#include "engine/ops/attention.h"

#include <mlx/array.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace mlxs::engine {

namespace mx = mlx::core;

struct AttentionPlan::Index {
  std::vector<Group> groups;
  mx::array order;
};

namespace {

mx::array to_array(const std::vector<std::int32_t>& values, mx::Shape shape) {
  return mx::array(values.begin(), std::move(shape), mx::int32);
}

AttentionPlan::Group make_group(std::span<const AttentionPlan::Row* const> rows, int block_tokens) {
  const int queries = rows.front()->q_len;
  std::size_t blocks = 0;
  for (const auto* row : rows) blocks = std::max(blocks, row->blocks.size());
  std::vector<std::int32_t> q_index;
  std::vector<std::int32_t> q_position;
  std::vector<std::int32_t> table;
  std::vector<std::int32_t> kv_position;
  for (const auto* row : rows) {
    for (int i = 0; i < queries; ++i) {
      q_index.push_back(row->q_start + i);
      q_position.push_back(row->kv_len - row->q_len + i);
    }
    for (std::size_t i = 0; i < blocks; ++i) {
      table.push_back(row->blocks[i < row->blocks.size() ? i : 0]);
      for (int k = 0; k < block_tokens; ++k) {
        const int position = static_cast<int>(i) * block_tokens + k;
        kv_position.push_back(position < row->kv_len ? position
                                                     : std::numeric_limits<std::int32_t>::max());
      }
    }
  }
  const int count = static_cast<int>(rows.size());
  const int width = static_cast<int>(blocks);
  return {.rows = count,
          .queries = queries,
          .q_index = to_array(q_index, {count * queries}),
          .q_position = to_array(q_position, {count, queries}),
          .table = to_array(table, {count, width}),
          .kv_position = to_array(kv_position, {count, width * block_tokens})};
}

}  // namespace

AttentionPlan::AttentionPlan(std::span<const Segment> segments, int block_tokens)
    : block_tokens_(block_tokens) {
  for (const Segment& segment : segments) {
    const int blocks = (segment.kv_len + block_tokens - 1) / block_tokens;
    MLXS_ASSERT(segment.q_start == tokens_ && segment.q_len >= 1);
    MLXS_ASSERT(segment.q_len <= segment.kv_len && std::ssize(segment.blocks) >= blocks);
    Row row{segment.q_start, segment.q_len, segment.kv_len, {}};
    for (int i = 0; i < blocks; ++i) {
      row.blocks.push_back(static_cast<std::int32_t>(segment.blocks[static_cast<std::size_t>(i)]));
    }
    rows_.push_back(std::move(row));
    tokens_ += segment.q_len;
  }
}

const AttentionPlan::Index& AttentionPlan::index() const {
  if (index_) return *index_;
  std::vector<const Row*> decode;
  for (const Row& row : rows_) {
    if (row.q_len == 1) decode.push_back(&row);
  }
  std::vector<Group> groups;
  std::vector<std::int32_t> order(static_cast<std::size_t>(tokens_));
  std::int32_t at = 0;
  const auto add = [&](std::span<const Row* const> rows) {
    groups.push_back(make_group(rows, block_tokens_));
    for (const Row* row : rows) {
      for (int i = 0; i < row->q_len; ++i) order[static_cast<std::size_t>(row->q_start + i)] = at++;
    }
  };
  if (!decode.empty()) add(decode);
  for (const Row& row : rows_) {
    const Row* one = &row;
    if (row.q_len > 1) add({&one, 1});
  }
  index_ = std::make_shared<const Index>(Index{std::move(groups), to_array(order, {tokens_})});
  return *index_;
}

const std::vector<AttentionPlan::Group>& AttentionPlan::groups() const { return index().groups; }
const mx::array& AttentionPlan::order() const { return index().order; }

}  // namespace mlxs::engine
