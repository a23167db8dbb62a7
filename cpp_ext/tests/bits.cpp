// Every width comes back; hostile lengths and spare bits are refused without reading past the end.
#include "bits.hpp"
#include "check.hpp"

using namespace ossicle;

int main() {
  std::mt19937 rng(std::random_device{}());
  for (unsigned width = 1; width <= 32; ++width)
    for (std::size_t count = 0; count < 40; ++count) {
      std::vector<std::uint32_t> values(count), back(count);
      for (auto& v : values) v = width == 32 ? rng() : rng() & ((1u << width) - 1);
      std::vector<std::uint8_t> data(packed_bytes(count, width));
      CHECK(pack_bits(values.data(), count, width, data.data()));
      CHECK(unpack_bits(data.data(), data.size(), count, width, back.data()) && back == values);
      CHECK(!unpack_bits(data.data(), data.size() + 1, count, width, back.data()));
      if (count * width % 8) {
        data.back() |= 1;
        CHECK(!unpack_bits(data.data(), data.size(), count, width, back.data()));
      }
      if (count && width < 32) {
        values[count / 2] = 1u << width;
        CHECK(!pack_bits(values.data(), count, width, data.data()));
      }
    }
}
