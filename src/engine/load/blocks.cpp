#include "engine/load/blocks.h"

#include "base/assert.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace mlxs::engine {
namespace {

constexpr int kHalf = kGroupElements / 2;

std::uint8_t byte_at(const std::byte* bytes, int i) { return static_cast<std::uint8_t>(bytes[i]); }

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float half_at(const std::byte* bytes) { return half_to_float(load<std::uint16_t>(bytes)); }

/// 16 bytes of two values each: the low halves come first.
void split_nibbles(const std::byte* pairs, BlockGroup& group) {
  for (int i = 0; i < kHalf; ++i) {
    group.q[static_cast<std::size_t>(i)] = byte_at(pairs, i) & 0x0fu;
    group.q[static_cast<std::size_t>(i + kHalf)] =
        static_cast<std::uint8_t>(byte_at(pairs, i) >> 4);
  }
}

/// A fifth bit for each value.
void add_high_bits(std::uint32_t bits, BlockGroup& group) {
  for (std::size_t i = 0; i < group.q.size(); ++i) {
    group.q[i] = static_cast<std::uint8_t>(group.q[i] | ((bits >> i) & 1u) << 4);
  }
}

/// Q4_0, Q4_1, Q5_0, Q5_1: scale, then an offset, then fifth bits, then nibbles, where there are.
BlockGroup read_plain(const std::byte* block, bool offset, bool high_bits) {
  BlockGroup group;
  group.scale = half_at(block);
  block += 2;
  if (offset) {
    group.offset = half_at(block);
    block += 2;
  } else {
    group.zero = high_bits ? 16 : 8;
  }
  split_nibbles(block + (high_bits ? 4 : 0), group);
  if (high_bits) add_high_bits(load<std::uint32_t>(block), group);
  return group;
}

BlockGroup read_q8_0(const std::byte* block) {
  BlockGroup group{.scale = half_at(block), .zero = 128};
  for (int i = 0; i < kGroupElements; ++i) {
    group.q[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(byte_at(block, 2 + i) ^ 0x80u);
  }
  return group;
}

/// Scales and offsets of Q4_K and Q5_K: eight of six bits each in twelve bytes.
void read_k_scales(const std::byte* block, int index, BlockGroup& group) {
  const std::byte* packed = block + 4;
  int scale = 0;
  int offset = 0;
  if (index < 4) {
    scale = byte_at(packed, index) & 0x3f;
    offset = byte_at(packed, index + 4) & 0x3f;
  } else {
    const int low = byte_at(packed, index + 4);
    scale = (low & 0x0f) | ((byte_at(packed, index - 4) >> 2) & 0x30);
    offset = (low >> 4) | ((byte_at(packed, index) >> 2) & 0x30);
  }
  group.scale = half_at(block) * static_cast<float>(scale);
  group.offset = -(half_at(block + 2) * static_cast<float>(offset));
}

/// Two groups share 32 bytes: one has the low halves, the next the high ones.
void read_k_nibbles(const std::byte* values, int index, BlockGroup& group) {
  const std::byte* pairs = values + index / 2 * kGroupElements;
  const int shift = index % 2 * 4;
  for (int i = 0; i < kGroupElements; ++i) {
    group.q[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>((byte_at(pairs, i) >> shift) & 0x0f);
  }
}

BlockGroup read_q4_k(const std::byte* block, int index) {
  BlockGroup group;
  read_k_scales(block, index, group);
  read_k_nibbles(block + 16, index, group);
  return group;
}

BlockGroup read_q5_k(const std::byte* block, int index) {
  BlockGroup group;
  read_k_scales(block, index, group);
  read_k_nibbles(block + 48, index, group);
  for (int i = 0; i < kGroupElements; ++i) {
    const int high = (byte_at(block, 16 + i) >> index) & 1;
    auto& q = group.q[static_cast<std::size_t>(i)];
    q = static_cast<std::uint8_t>(q | high << 4);
  }
  return group;
}

/// IQ4's sixteen values, chosen by ggml's authors to fit how weights are distributed.
constexpr std::array<int, 16> kIq4Values = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/// Small floats of four bits, doubled: sign, two bits of exponent, one of mantissa.
constexpr std::array<int, 16> kFloat4Values = {
    0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void look_up(const std::array<int, 16>& values, int zero, BlockGroup& group) {
  group.zero = zero;
  for (std::uint8_t& q : group.q) q = static_cast<std::uint8_t>(values[q] + zero);
}

BlockGroup read_iq4_nl(const std::byte* block) {
  BlockGroup group{.scale = half_at(block)};
  split_nibbles(block + 2, group);
  look_up(kIq4Values, 128, group);
  return group;
}

BlockGroup read_iq4_xs(const std::byte* block, int index) {
  const int low = (byte_at(block, 4 + index / 2) >> (index % 2 * 4)) & 0x0f;
  const int high = (load<std::uint16_t>(block + 2) >> (2 * index)) & 3;
  BlockGroup group{.scale = half_at(block) * static_cast<float>((low | high << 4) - 32)};
  split_nibbles(block + 8 + index * kHalf, group);
  look_up(kIq4Values, 128, group);
  return group;
}

BlockGroup read_mxfp4(const std::byte* block) {
  // The scale is a power of two; half of it, since the values are doubled.
  BlockGroup group{.scale = std::ldexp(1.0f, byte_at(block, 0) - 128)};
  split_nibbles(block + 1, group);
  look_up(kFloat4Values, 12, group);
  return group;
}

/// Rows r of 32 neighbours within a block of 256 share 32 bytes, four to each, at two bits.
int two_bits(const std::byte* values, int row, int i) {
  return (byte_at(values, row / 4 * 32 + i) >> (row % 4 * 2)) & 3;
}

void widen_q2_k(const std::byte* block, float* out) {
  const float scale = half_at(block + 80);
  const float offset_scale = half_at(block + 82);
  for (int at = 0; at < 256; ++at) {
    const int packed = byte_at(block, at / 16);
    const float step = scale * static_cast<float>(packed & 0x0f);
    const float offset = offset_scale * static_cast<float>(packed >> 4);
    out[at] = step * static_cast<float>(two_bits(block + 16, at / 32, at % 32)) - offset;
  }
}

void widen_q3_k(const std::byte* block, float* out) {
  const float scale = half_at(block + 108);
  const std::byte* packed = block + 96;
  for (int at = 0; at < 256; ++at) {
    const int sub = at / 16;
    const int low = (byte_at(packed, sub % 8) >> (sub / 8 * 4)) & 0x0f;
    const int high = (byte_at(packed, 8 + sub % 4) >> (sub / 4 * 2)) & 3;
    const float step = scale * static_cast<float>((low | high << 4) - 32);
    const bool positive = ((byte_at(block, at % 32) >> (at / 32)) & 1) != 0;
    const int q = two_bits(block + 32, at / 32, at % 32) - (positive ? 0 : 4);
    out[at] = step * static_cast<float>(q);
  }
}

void widen_q6_k(const std::byte* block, float* out) {
  const float scale = half_at(block + 208);
  for (int at = 0; at < 256; ++at) {
    const int row = at / 32;
    const int i = at % 32;
    const int low = (byte_at(block, row / 4 * 64 + row % 2 * 32 + i) >> (row % 4 / 2 * 4)) & 0x0f;
    const int q = (low | two_bits(block + 128, row, i) << 4) - 32;
    const auto step = static_cast<std::int8_t>(byte_at(block, 192 + at / 16));
    out[at] = scale * static_cast<float>(step) * static_cast<float>(q);
  }
}

}  // namespace

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

bool has_groups(TensorType type) {
  return is_block_quantised(type) && type != TensorType::kQ2_K && type != TensorType::kQ3_K &&
         type != TensorType::kQ6_K;
}

BlockGroup read_group(TensorType type, const std::byte* block, int index) {
  switch (type) {
    case TensorType::kQ4_0:
      return read_plain(block, false, false);
    case TensorType::kQ4_1:
      return read_plain(block, true, false);
    case TensorType::kQ5_0:
      return read_plain(block, false, true);
    case TensorType::kQ5_1:
      return read_plain(block, true, true);
    case TensorType::kQ8_0:
      return read_q8_0(block);
    case TensorType::kQ4_K:
      return read_q4_k(block, index);
    case TensorType::kQ5_K:
      return read_q5_k(block, index);
    case TensorType::kIQ4_NL:
      return read_iq4_nl(block);
    case TensorType::kIQ4_XS:
      return read_iq4_xs(block, index);
    case TensorType::kMXFP4:
      return read_mxfp4(block);
    default:
      MLXS_ASSERT(false && "a type with groups");
      return {};
  }
}

void widen_block(TensorType type, const std::byte* block, float* out) {
  switch (type) {
    case TensorType::kQ2_K:
      return widen_q2_k(block, out);
    case TensorType::kQ3_K:
      return widen_q3_k(block, out);
    case TensorType::kQ6_K:
      return widen_q6_k(block, out);
    default:
      break;
  }
  for (int i = 0; i < block_elements(type) / kGroupElements; ++i) {
    const BlockGroup group = read_group(type, block, i);
    for (const std::uint8_t q : group.q) {
      *out++ = group.scale * static_cast<float>(q - group.zero) + group.offset;
    }
  }
}

}  // namespace mlxs::engine
