// Codes against a plain fp64 search, ragged sizes, from one thread and from several at once.
#include <thread>

#include "books.hpp"
#include "check.hpp"

using namespace ossicle;

namespace {

void compare(const std::vector<float>& rows, std::int64_t K, std::int64_t N, std::int64_t D, std::int64_t T,
             bool integer, std::int64_t outer, std::mt19937& rng) {
  const auto x = floats(rng, T * D);
  const PackedBooks books(rows.data(), K, N, D, false, integer);
  for (std::int64_t k = 0; k < K; ++k) CHECK(books.outer(k) == outer);
  std::vector<std::int32_t> codes(K * T, -7);
  books.encode(x.data(), T, K, codes.data(), T);
  for (std::int64_t t = 0; t < T; ++t) {
    std::vector<double> r(x.begin() + t * D, x.begin() + (t + 1) * D);
    for (std::int64_t k = 0; k < K; ++k) {
      std::int64_t best = 0;
      double least = 1e300;
      for (std::int64_t n = 0; n < N; ++n) {
        double s = 0.0;
        for (std::int64_t d = 0; d < D; ++d) {
          const double e = r[d] - rows[(k * N + n) * D + d];
          s += e * e;
        }
        if (s < least) least = s, best = n;
      }
      CHECK(codes[k * T + t] == best);
      for (std::int64_t d = 0; d < D; ++d) r[d] -= rows[(k * N + best) * D + d];
    }
  }
  std::vector<float> out(T * D);
  CHECK(books.decode(codes.data(), K, T, out.data()));
  codes[0] = static_cast<std::int32_t>(N);
  CHECK(!books.decode(codes.data(), K, T, out.data()));
}

// Rows that are sums of I = N / J and J others, off by `rounding` of themselves.
std::vector<float> sums(std::int64_t K, std::int64_t N, std::int64_t J, std::int64_t D, float rounding,
                        std::mt19937& rng) {
  const std::int64_t I = N / J;
  auto rows = floats(rng, K * N * D);
  const auto inner = floats(rng, K * I * D), outer = floats(rng, K * J * D);
  for (std::int64_t k = 0; k < K; ++k)
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t d = 0; d < D; ++d) {
        float& v = rows[(k * N + n) * D + d];
        v = (inner[(k * I + n % I) * D + d] + outer[(k * J + n / I) * D + d]) * (1.0f + rounding * v);
      }
  return rows;
}

}  // namespace

int main() {
  std::mt19937 rng(std::random_device{}());
  each_isa([&] {
    const bool integer = table().integer_dot;
    for (const std::int64_t N : {1, 16, 17, 64, 130})
      for (const std::int64_t D : {1, 7, 16, 33}) compare(floats(rng, 2 * N * D), 2, N, D, 19, integer, 1, rng);
    compare(floats(rng, 70 * 20), 1, 70, 20, 3, true, 1, rng);  // int8 on every instruction set
    for (const bool low : {false, true})
      for (const std::int64_t T : {1, 19}) {
        compare(sums(2, 512, 4, 33, 1e-4f, rng), 2, 512, 33, T, low, 4, rng);
        compare(sums(2, 1024, 16, 64, 1e-4f, rng), 2, 1024, 64, T, low, 16, rng);
        compare(sums(1, 256, 4, 16, 0.1f, rng), 1, 256, 16, T, low, 1, rng);  // too far from sums
      }
  });
  const auto rows = floats(rng, 2 * 64 * 16), x = floats(rng, 50 * 16);
  const PackedBooks books(rows.data(), 2, 64, 16, false, true);
  std::vector<std::int32_t> want(100);
  books.encode(x.data(), 50, 2, want.data(), 50);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      std::vector<std::int32_t> got(100);
      for (int j = 0; j < 20; ++j) {
        books.encode(x.data(), 50, 2, got.data(), 50);
        CHECK(got == want);
      }
    });
  for (auto& t : threads) t.join();
}
