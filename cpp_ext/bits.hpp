// Numbers of 1 to 32 bits packed without gaps, most significant bit first.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ossicle {

inline std::size_t packed_bytes(std::size_t count, unsigned width) {
  return (count * width + 7) / 8;
}

// False if a value needs more than `width` bits; then `out` is unspecified.
inline bool pack_bits(const std::uint32_t* values, std::size_t count, unsigned width, std::uint8_t* out) {
  std::uint64_t held = 0;
  unsigned bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (width < 32 && values[i] >> width) return false;
    held = (held << width) | values[i];
    bits += width;
    while (bits >= 8) {
      bits -= 8;
      *out++ = static_cast<std::uint8_t>(held >> bits);
    }
  }
  if (bits) *out = static_cast<std::uint8_t>(held << (8 - bits));
  return true;
}

// False if `size` bytes hold fewer than `count` numbers, or the bits after the last one are not 0.
inline bool unpack_bits(const std::uint8_t* data, std::size_t size, std::size_t count, unsigned width,
                        std::uint32_t* out) {
  if (size != packed_bytes(count, width)) return false;
  const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
  std::uint64_t held = 0;
  unsigned bits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    while (bits < width) {
      held = (held << 8) | *data++;
      bits += 8;
    }
    bits -= width;
    out[i] = static_cast<std::uint32_t>((held >> bits) & mask);
  }
  return !bits || !(held & ((std::uint64_t{1} << bits) - 1));
}

}  // namespace ossicle
