// Rows of a batch: many streams' arrays into one array, and whether values are finite.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ossicle {

// Whether none of n floats is NaN or infinite. Whole words are looked at, without a branch a value.
inline bool finite(const float* x, std::size_t n) {
  constexpr std::uint32_t exponent = 0x7f800000u;
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bad |= static_cast<std::uint32_t>((bits & exponent) == exponent);
  }
  return bad == 0;
}

// Row `place` of target, `size` bytes each, becomes what lies at `row`.
inline void write_row(char* target, std::size_t place, const char* row, std::size_t size) {
  std::memcpy(target + place * size, row, size);
}

}  // namespace ossicle
