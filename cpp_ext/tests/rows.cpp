// Rows of a batch: each lands in its place alone, and one bad value anywhere is seen.
#include "check.hpp"

#include <limits>

#include "rows.hpp"

using namespace ossicle;

int main() {
  std::mt19937 rng(std::random_device{}());
  for (const std::size_t n : {0, 1, 7, 64, 129}) {
    auto x = floats(rng, n);
    CHECK(finite(x.data(), n));
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
      for (std::size_t i = 0; i < n; ++i) {
        auto y = x;
        y[i] = bad;
        CHECK(!finite(y.data(), n));
      }
    for (float& v : x) v = std::numeric_limits<float>::max();  // their sum overflows, they do not
    if (n) x[0] = std::numeric_limits<float>::denorm_min();
    CHECK(finite(x.data(), n));
  }
  const std::size_t rows = 5, width = 3, size = width * sizeof(float);
  const auto before = floats(rng, rows * width);
  for (std::size_t place = 0; place < rows; ++place) {
    auto target = before;
    const auto row = floats(rng, width);
    write_row(reinterpret_cast<char*>(target.data()), place, reinterpret_cast<const char*>(row.data()), size);
    for (std::size_t i = 0; i < rows * width; ++i) CHECK(target[i] == (i / width == place ? row[i % width] : before[i]));
  }
}
