// Weights in fewer bits than fp32.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace ossicle {

inline std::uint16_t to_bf16(float v) {  // to nearest even; NaN stays NaN
  const std::uint32_t u = std::bit_cast<std::uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40);
  return static_cast<std::uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// 24 bits: whole numbers in a unit of their row. The unit is 2^(exponent - 23) where the largest weight is below
// 2^exponent, a power of two, so that it rounds nothing when a sum is taken times it. Anything that is not finite makes
// the whole row NaN.
class Fixed24 {
 public:
  // Call see() for every weight of the row first.
  void see(float w) {
    finite_ = finite_ && std::isfinite(w);
    peak_ = std::max(peak_, std::fabs(w));
  }
  // The unit over 256: weights are widened to where an int32 holds them 256 times.
  float scale() const {
    return finite_ ? std::ldexp(1.0f, exponent() - 31) : std::numeric_limits<float>::quiet_NaN();
  }
  // How many units a weight is, to nearest even.
  std::int32_t units(float w) const {
    if (!finite_) return 0;
    const long n = std::lrint(std::ldexp(static_cast<double>(w), 23 - exponent()));
    return static_cast<std::int32_t>(std::min(n, (1l << 23) - 1));
  }
  // What is kept of a weight; a float holds it exactly.
  float kept(float w) const {
    return static_cast<float>(std::ldexp(static_cast<double>(units(w)), exponent() - 23)) + (finite_ ? 0.0f : scale());
  }
  void write(float w, unsigned char* at) const {
    const auto n = static_cast<std::uint32_t>(units(w));
    for (int i = 0; i < 3; ++i) at[i] = static_cast<unsigned char>(n >> (8 * i));
  }

 private:
  static constexpr int kLeast = -94;  // so that scale() is a normal float

  int exponent() const {
    int found = 0;
    std::frexp(peak_, &found);
    return std::max(found, kLeast);
  }

  float peak_ = 0.0f;
  bool finite_ = true;
};

}  // namespace ossicle
