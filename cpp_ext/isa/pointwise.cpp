// Snake, linear combination, GRU gates and log mel.
#include "kernels.hpp"
#include "math.hpp"

namespace ossicle::OSSICLE_NS {
namespace {

// Calls f on every register of n floats, the last one padded with zeros.
template <class F>
OSSICLE_INLINE void each(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + L <= n; i += L) f(i, std::int64_t(L));
  if (i < n) f(i, n - i);
}
OSSICLE_INLINE vf get(const float* p, std::int64_t n) { return n == L ? load(p) : load_part(p, n); }
OSSICLE_INLINE void put(float* p, vf v, std::int64_t n) { n == L ? store(p, v) : store_part(p, v, n); }

}  // namespace

void snake(const float* x, const float* alpha, const float* inverse, std::int64_t rows, std::int64_t C, float* out) {
  for (std::int64_t t = 0; t < rows; ++t)
    each(C, [&](std::int64_t i, std::int64_t n) __attribute__((always_inline)) {
      const vf v = get(x + t * C + i, n);
      put(out + t * C + i, v + get(inverse + i, n) * sine_squared(v * get(alpha + i, n)), n);
    });
}

void narrow(const float* x, std::int64_t size, Weights kind, float inverse, void* out) {
  if (kind == Weights::bf16) {  // to nearest even; NaN stays NaN
    auto* to = static_cast<std::uint16_t*>(out);
    typedef std::uint16_t vh __attribute__((vector_size(2 * L), aligned(1), may_alias));
    std::int64_t i = 0;
    for (; i + L <= size; i += L) {
      const vf v = load(x + i);
      const vi u = bits(v);
      const vi rounded = u + 0x7fff + ((u >> 16) & 1);
      const vi kept = ((v != v) ? (u | 0x400000) : rounded) >> 16;
      *reinterpret_cast<vh*>(to + i) = __builtin_convertvector(kept, vh);
    }
    if (i < size) {
      std::uint16_t last[L];
      float rest[L] = {};
      for (std::int64_t j = i; j < size; ++j) rest[j - i] = x[j];
      narrow(rest, L, kind, inverse, last);
      for (std::int64_t j = i; j < size; ++j) to[j] = last[j - i];
    }
    return;
  }
  auto* to = static_cast<std::int8_t*>(out);
  typedef std::int8_t vb __attribute__((vector_size(L), aligned(1), may_alias));
  each(size, [&](std::int64_t i, std::int64_t n) __attribute__((always_inline)) {
    const vf v = get(x + i, n) * inverse;
    const vf whole = nearest(pick(v < all(-127.0f), all(-127.0f), pick(v > all(127.0f), all(127.0f), v)));
    const vi q = toint(pick(v != v, vf{}, whole));  // NaN counts as 0
    const vb narrowed = __builtin_convertvector(q, vb);
    if (n == L) *reinterpret_cast<vb*>(to + i) = narrowed;
    else for (std::int64_t j = 0; j < n; ++j) to[i + j] = narrowed[j];
  });
}

void combine(const float* const* terms, const float* weights, std::int64_t count, std::int64_t size, float* out) {
  constexpr std::int64_t kRun = 4;  // registers at once, so that a term's address and weight are fetched once for all
  std::int64_t i = 0;
  for (; i + kRun * L <= size; i += kRun * L) {
    vf y[kRun];
    for (int r = 0; r < kRun; ++r) y[r] = weights[0] * load(terms[0] + i + r * L);
    for (std::int64_t k = 1; k < count; ++k) {
      const float* term = terms[k] + i;
      const float weight = weights[k];
      for (int r = 0; r < kRun; ++r) y[r] += weight * load(term + r * L);
    }
    for (int r = 0; r < kRun; ++r) store(out + i + r * L, y[r]);
  }
  for (; i < size; i += L) {
    const std::int64_t n = size - i < L ? size - i : L;
    vf y = weights[0] * get(terms[0] + i, n);
    for (std::int64_t k = 1; k < count; ++k) y += weights[k] * get(terms[k] + i, n);
    put(out + i, y, n);
  }
}

void gru_gates(const float* xi, const float* hh, std::int64_t H, float* h) {
  each(H, [&](std::int64_t i, std::int64_t n) __attribute__((always_inline)) {
    const vf r = sigmoid_(get(xi + i, n) + get(hh + i, n));
    const vf z = sigmoid_(get(xi + H + i, n) + get(hh + H + i, n));
    const vf c = tanh_(get(xi + 2 * H + i, n) + r * get(hh + 2 * H + i, n));
    put(h + i, c + z * (get(h + i, n) - c), n);
  });
}

void log_mel(const float* spectrum, std::int64_t bins, const std::int32_t* first, const std::int32_t* length,
             const float* weights, std::int64_t stride, std::int64_t mels, int power, float offset, float floor,
             float log_scale, float* out) {
  (void)bins;
  for (std::int64_t m = 0; m < mels; ++m) {
    vf acc{};
    each(length[m], [&](std::int64_t i, std::int64_t n) __attribute__((always_inline)) {
      alignas(64) float p[L] = {};
      for (std::int64_t j = 0; j < n; ++j) {
        const float* c = spectrum + 2 * (first[m] + i + j);
        p[j] = c[0] * c[0] + c[1] * c[1];
        if (power == 1) p[j] = __builtin_sqrtf(p[j]);
      }
      acc += load(p) * get(weights + m * stride + i, n);
    });
    out[m] = sum(acc);
  }
  each(mels, [&](std::int64_t i, std::int64_t n) __attribute__((always_inline)) {
    const vf v = get(out + i, n) + offset;
    put(out + i, log_scale * log_(pick(v < all(floor), all(floor), v)), n);
  });
}

}  // namespace ossicle::OSSICLE_NS
