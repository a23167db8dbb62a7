// One query against a ring of keys and values.
//
// Keys lie as [capacity/16, width, 16] so that 16 scores come out of one register; values as
// [capacity, width]. The softmax is taken over chunks of 128 keys with a running maximum.
#include "kernels.hpp"
#include "math.hpp"

namespace ossicle::OSSICLE_NS {
namespace {

constexpr int kChunk = 128;
constexpr int kWide = 256;  // width at most

// Scores of the keys of N packed groups. Every N adds in the same order.
template <int N>
OSSICLE_INLINE void score_groups(const float* q, const float* keys, std::int64_t width, float scale, float* out) {
  vf acc[N][4][R] = {};
  const std::int64_t group = width * G;
  std::int64_t d = 0;
  for (; d + 4 <= width; d += 4)
    for (int u = 0; u < 4; ++u) {
      const float x = q[d + u];
      for (int n = 0; n < N; ++n) {
        for (int r = 0; r < R; ++r) acc[n][u][r] += load(keys + n * group + (d + u) * G + r * L) * x;
      }
    }
  for (; d < width; ++d)
    for (int n = 0; n < N; ++n)
      for (int r = 0; r < R; ++r) acc[n][0][r] += load(keys + n * group + d * G + r * L) * q[d];
  for (int n = 0; n < N; ++n)
    for (int r = 0; r < R; ++r)
      store(out + n * G + r * L, ((acc[n][0][r] + acc[n][1][r]) + (acc[n][2][r] + acc[n][3][r])) * scale);
}

template <int W>  // registers of width
OSSICLE_INLINE void add_values(const float* p, const float* values, std::int64_t n, std::int64_t width, float* acc) {
  constexpr int U = W <= 4 ? 4 : 2;
  vf a[U][W] = {};
  for (int w = 0; w < W; ++w) a[0][w] = load(acc + w * L);
  std::int64_t i = 0;
  for (; i + U <= n; i += U)
    for (int u = 0; u < U; ++u)
      for (int w = 0; w < W; ++w) a[u][w] += load(values + (i + u) * width + w * L) * p[i + u];
  for (; i < n; ++i)
    for (int w = 0; w < W; ++w) a[0][w] += load(values + i * width + w * L) * p[i];
  for (int w = 0; w < W; ++w) {
    vf total = a[0][w];
    for (int u = 1; u < U; ++u) total += a[u][w];
    store(acc + w * L, total);
  }
}

OSSICLE_INLINE void add_values_any(const float* p, const float* values, std::int64_t n, std::int64_t width,
                                   float* acc) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t d = 0; d < width; ++d) acc[d] += p[i] * values[i * width + d];
}

struct Running {
  float top, total;
};

// Adds the keys at ring places [a, b), at most kChunk of them in whole groups.
OSSICLE_INLINE void chunk(const float* q, const float* keys, const float* values, std::int64_t a, std::int64_t b,
                          std::int64_t width, float scale, Running& run, float* acc) {
  alignas(64) float p[kChunk + G];
  const std::int64_t g0 = a / G, g1 = (b + G - 1) / G;
  constexpr int kGroups = R == 1 ? 4 : 1;  // as many as leave their sums in registers
  std::int64_t g = g0;
  for (; g + kGroups <= g1; g += kGroups)
    score_groups<kGroups>(q, keys + g * width * G, width, scale, p + (g - g0) * G);
  for (; g < g1; ++g)
    score_groups<1>(q, keys + g * width * G, width, scale, p + (g - g0) * G);
  float* from = p + (a - g0 * G);
  const std::int64_t n = b - a;
  vf tops = all(run.top);
  std::int64_t j = 0;
  for (; j + L <= n; j += L) tops = most(load(from + j), tops);  // NaN loses every comparison
  float top = highest(tops);
  for (; j < n; ++j) top = from[j] > top ? from[j] : top;
  const float off = top > -3.4e38f ? top : 0.0f;
  vf sums{};
  std::int64_t i = 0;
  for (; i + L <= n; i += L) {
    const vf e = exp_(load(from + i) - off);
    store(from + i, e);
    sums += e;
  }
  if (i < n) {
    vf e = exp_(load_part(from + i, n - i) - off);
    for (std::int64_t z = n - i; z < L; ++z) e[z] = 0.0f;
    store_part(from + i, e, n - i);
    sums += e;
  }
  if (top != run.top) {
    const float shrink = exp_(all(run.top - off))[0];
    run.total *= shrink;
    for (std::int64_t d = 0; d < width; ++d) acc[d] *= shrink;
    run.top = top;
  }
  run.total += sum(sums);
  const float* v = values + a * width;
  if (width == 4 * L) add_values<4>(from, v, n, width, acc);
  else if (width == 2 * L) add_values<2>(from, v, n, width, acc);
  else if (width == 8 * L) add_values<8>(from, v, n, width, acc);
  else if (width == L) add_values<1>(from, v, n, width, acc);
  else add_values_any(from, v, n, width, acc);
}

}  // namespace

void attend(const float* q, const float* keys, const float* values, std::int64_t capacity, std::int64_t first,
            std::int64_t count, std::int64_t width, float scale, float* out) {
  alignas(64) float acc[kWide];
  for (std::int64_t d = 0; d < width; ++d) acc[d] = 0.0f;
  Running run{-__builtin_inff(), 0.0f};
  while (count > 0) {
    std::int64_t stop = (first / G) * G + kChunk;
    if (stop > capacity) stop = capacity;
    if (stop > first + count) stop = first + count;
    chunk(q, keys, values, first, stop, width, scale, run, acc);
    count -= stop - first;
    first = stop == capacity ? 0 : stop;
  }
  const float inverse = run.total == 0.0f ? 0.0f : 1.0f / run.total;
  for (std::int64_t d = 0; d < width; ++d) out[d] = acc[d] * inverse;
}

}  // namespace ossicle::OSSICLE_NS
