#pragma once

#include <cstdint>
#include <cstring>

namespace mlxs::engine {

/// IEEE half precision, for machines and builds without an instruction for it. Exact.
[[nodiscard]] inline float half_to_float(std::uint16_t half) {
  // Exponent and mantissa moved to a float's places are off by 2^112, which a product puts right,
  // subnormals included; infinities and not-a-numbers keep their exponent.
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t rest = (half & 0x7fffu) << 13;
  if ((half & 0x7c00u) == 0x7c00u) {
    const std::uint32_t bits = sign | 0x7f800000u | rest;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  float value = 0;
  std::memcpy(&value, &rest, sizeof value);
  value *= 0x1p112f;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  bits |= sign;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

[[nodiscard]] inline float bfloat16_to_float(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Its upper half, which equals `value` where one of bfloat16 does.
[[nodiscard]] inline std::uint16_t float_to_bfloat16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

/// The half that equals `value`; where none does, some other one.
[[nodiscard]] inline std::uint16_t float_to_half(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits >= 0x47800000u) return sign;  // 2^16 and above: not representable.
  float scaled = 0;
  std::memcpy(&scaled, &bits, sizeof scaled);
  scaled *= 0x1p-112f;
  std::memcpy(&bits, &scaled, sizeof bits);
  return static_cast<std::uint16_t>(sign | bits >> 13);
}

/// The nearest half, ties to even; beyond the largest ones these, where there is a number.
[[nodiscard]] inline std::uint16_t round_to_half(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (bits >= 0x477fe000u) return static_cast<std::uint16_t>(sign | 0x7bffu);  // 65504 and more
  if (bits < 0x38800000u) {  // Below 2^-14: whole multiples of 2^-24, which adding 1/2 rounds to.
    float scaled = 0;
    std::memcpy(&scaled, &bits, sizeof scaled);
    scaled += 0.5f;
    std::memcpy(&bits, &scaled, sizeof bits);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + (bits >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (bits - 0x38000000u) >> 13);
}

}  // namespace mlxs::engine
