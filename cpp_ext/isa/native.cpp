// The kernels of the step executor: matrix products on packed panels, element-wise maps, short filters, rows.
//
// Every output adds its products in the order of K, whatever the number of rows, so a stream's result does not
// depend on how many others came with it.
#include "../steptable.hpp"
#include "math.hpp"
#include "wide24.hpp"

namespace ossicle::OSSICLE_NS {
namespace {
using namespace ossicle::native;

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kSums = 24;  // registers that hold sums; the rest hold weights and inputs
#else
constexpr int kSums = 12;
#endif
constexpr int kMostGroups = 4;  // of 16 columns: a panel
// Bytes of weights asked for ahead of their use: few streams pull them from the third cache, whose delay is longer than
// what the processor looks ahead by itself (measured: 10 to 50 % of the time of a product whose weights lie there).
constexpr int kAhead = 1024;
constexpr int rows_for(int groups) {
  const int f = kSums / (groups * R);
  return f < 1 ? 1 : f > 12 ? 12 : f;
}

OSSICLE_INLINE vf get(const float* p, std::int64_t n) { return n >= L ? load(p) : load_part(p, n); }
OSSICLE_INLINE void put(float* p, vf v, std::int64_t n) { n >= L ? store(p, v) : store_part(p, v, n); }

template <class F>
OSSICLE_INLINE vf each_lane(vf v, F f) {
  for (int i = 0; i < L; ++i) v[i] = f(v[i]);
  return v;
}

OSSICLE_INLINE vf root(vf v) {
  return each_lane(v, [](float x) __attribute__((always_inline)) { return __builtin_sqrtf(x); });
}
OSSICLE_INLINE vf gelu_(vf v) {
  const vf e = each_lane(v * 0.70710678118654752f,
                         [](float x) __attribute__((always_inline)) { return __builtin_erff(x); });
  return 0.5f * v * (1.0f + e);
}
OSSICLE_INLINE vf leaky_(vf v, float alpha) { return pick(v < vf{}, v * alpha, v); }
OSSICLE_INLINE vf relu_(vf v) { return pick(v < vf{}, vf{}, v); }

// To the nearest step, ties to even; what lies outside, and NaN, goes to the ends as an integer would.
OSSICLE_INLINE vf quantised(vf x, float scale, float zero, float low, float high) {
  const vf y = x / scale;
  const vf bounded = pick(y > all(-1024.0f), pick(y < all(1024.0f), y, all(1024.0f)), all(-1024.0f));
  return clamp(nearest(bounded) + zero, low, high);
}

OSSICLE_INLINE vf activate(vf v, Act act, float alpha) {
  switch (act) {
    case Act::relu: return relu_(v);
    case Act::leaky: return leaky_(v, alpha);
    case Act::silu: return v * sigmoid_(v);
    case Act::sigmoid: return sigmoid_(v);
    case Act::tanh: return tanh_(v);
    case Act::gelu: return gelu_(v);
    default: return v;
  }
}

// A row that was stored as sums: its activation, then what is added to it.
__attribute__((noinline)) void late(float* out, const float* residual, std::int64_t n, Act act, float alpha) {
  for (std::int64_t i = 0; i < n; i += L) {
    vf v = activate(get(out + i, n - i), act, alpha);
    if (residual) v += get(residual + i, n - i);
    put(out + i, v, n - i);
  }
}

OSSICLE_INLINE bool simple(Act act) { return act == Act::none || act == Act::relu || act == Act::leaky; }

// What 16 columns of a panel take of one step: a k, or two for bf16.
constexpr std::int64_t bytes_of(Packing packing) { return packing == Packing::fixed24 ? 3 * G : 4 * G; }

// F rows from row `first` on, NG groups of columns from column `column` on. `w` is their first weight, `stride` the
// bytes from one k (or pair of k) to the next. The bias comes last, so that weights in a unit add up to the same bits.
template <Packing packing, int F, int NG>
void tile(const Gemm& g, std::int64_t first, std::int64_t column, const char* w, std::int64_t stride) {
  vf sums[F][NG * R] = {};
  for (std::int64_t part = 0; part < g.parts; ++part) {
    const float* x[F];
    for (int f = 0; f < F; ++f) x[f] = g.rows[part * g.F + first + f];
    const std::int64_t width = g.widths[part];
    if constexpr (packing != Packing::half) {
      for (std::int64_t c = 0; c < width; ++c, w += stride) {
        for (int i = 0; i < NG; ++i) __builtin_prefetch(w + kAhead + 64 * i);
        vf row[NG * R];
        for (int i = 0; i < NG * R; ++i)
          if constexpr (packing == Packing::fixed24) row[i] = wide24(w + 3 * i * L);
          else row[i] = load(reinterpret_cast<const float*>(w) + i * L);
        for (int f = 0; f < F; ++f)
          for (int i = 0; i < NG * R; ++i) sums[f][i] += row[i] * x[f][c];
      }
    } else {
      for (std::int64_t c = 0; c < width; c += 2, w += stride) {
        for (int i = 0; i < NG; ++i) __builtin_prefetch(w + kAhead + 64 * i);
        vi pair[NG * R];
        for (int i = 0; i < NG * R; ++i) pair[i] = loadi(reinterpret_cast<const std::int32_t*>(w) + i * L);
        for (int f = 0; f < F; ++f)
          for (int i = 0; i < NG * R; ++i) sums[f][i] += floats(pair[i] << 16) * x[f][c];
        if (c + 1 < width)
          for (int f = 0; f < F; ++f)
            for (int i = 0; i < NG * R; ++i) sums[f][i] += floats(pair[i] & ~0xffff) * x[f][c + 1];
      }
    }
  }
  for (int i = 0; i < NG * R; ++i) {
    const vf bias = load(g.bias + column + i * L);
    for (int f = 0; f < F; ++f) {
      if constexpr (packing == Packing::fixed24) sums[f][i] *= load(g.scale + column + i * L);
      sums[f][i] += bias;
    }
  }
  const bool now = simple(g.act);
  const std::int64_t n = g.N - column;
  for (int f = 0; f < F; ++f) {
    float* out = g.out[first + f] + column;
    const float* residual = g.residual ? g.residual[first + f] + column : nullptr;
    for (int i = 0; i < NG * R && i * L < n; ++i) {
      vf v = sums[f][i];
      if (g.act == Act::leaky) v = leaky_(v, g.alpha);
      else if (g.act == Act::relu) v = relu_(v);
      if (now && residual) v += get(residual + i * L, n - i * L);
      put(out + i * L, v, n - i * L);
    }
    if (!now) late(out, residual, n < NG * G ? n : NG * G, g.act, g.alpha);
  }
}

template <Packing packing, int F, int NG>
OSSICLE_INLINE void rows_of(std::int64_t rows, const Gemm& g, std::int64_t first, std::int64_t column, const char* w,
                            std::int64_t stride) {
  if constexpr (F > 1)
    if (rows < F) return rows_of<packing, F - 1, NG>(rows, g, first, column, w, stride);
  tile<packing, F, NG>(g, first, column, w, stride);
}

// All rows of NG groups of columns, in tiles of nearly equal height.
template <Packing packing, int NG>
void strip(const Gemm& g, std::int64_t column, const char* w, std::int64_t stride) {
  constexpr std::int64_t most = rows_for(NG);
  std::int64_t tiles = (g.F + most - 1) / most, first = 0;
  for (; tiles > 0; --tiles) {
    const std::int64_t rows = (g.F - first + tiles - 1) / tiles;
    rows_of<packing, rows_for(NG), NG>(rows, g, first, column, w, stride);
    first += rows;
  }
}

template <Packing packing>
void panels(const Gemm& g) {
  std::int64_t steps = 0;  // k or pairs of k
  for (std::int64_t part = 0; part < g.parts; ++part) steps += packing == Packing::half ? (g.widths[part] + 1) / 2 : g.widths[part];
  const char* panel = reinterpret_cast<const char*>(g.weights);
  // Narrow registers hold the sums of a whole panel for one row only.
  const int groups = L == 16 || g.F == 1 ? kMostGroups : 1;
  for (std::int64_t column = 0; column < g.N; column += kMostGroups * G) {
    const std::int64_t left = (g.N - column + G - 1) / G;
    const int wide = left < kMostGroups ? static_cast<int>(left) : kMostGroups;
    const std::int64_t stride = wide * bytes_of(packing);
    for (int at = 0; at < wide;) {
      const int take = wide - at < groups ? wide - at : groups;
      const char* w = panel + at * bytes_of(packing);
      const std::int64_t c = column + at * G;
      if (take == 4) strip<packing, 4>(g, c, w, stride);
      else if (take == 3) strip<packing, 3>(g, c, w, stride);
      else if (take == 2) strip<packing, 2>(g, c, w, stride);
      else strip<packing, 1>(g, c, w, stride);
      at += take;
    }
    panel += steps * stride;
  }
}

// Measured: from four rows on the arithmetic takes longer than fp32 weights take to come. Without a shuffle widening
// costs more than it ever saves.
#if defined(__SSE2__) && !defined(__AVX2__)
constexpr std::int64_t kFixedRows = 0;
#else
constexpr std::int64_t kFixedRows = OSSICLE_LANES == 16 ? 3 : 1;
#endif

void gemm_step(const Gemm& g) {
  if (g.packing == Packing::half) panels<Packing::half>(g);
  else if (g.packing == Packing::fixed24) panels<Packing::fixed24>(g);
  else panels<Packing::whole>(g);
}

// Registers from any stride; lanes past n are 0.
OSSICLE_INLINE vf fetch(const float* p, std::int64_t stride, std::int64_t i, std::int64_t n) {
  if (stride == 1) return get(p + i, n);
  if (stride == 0) return all(*p);
  vf v{};
  for (std::int64_t j = 0; j < L && j < n; ++j) v[j] = p[(i + j) * stride];
  return v;
}
OSSICLE_INLINE void give(float* p, std::int64_t stride, std::int64_t i, std::int64_t n, vf v) {
  if (stride == 1) return put(p + i, v, n);
  for (std::int64_t j = 0; j < L && j < n; ++j) p[(i + j) * stride] = v[j];
}

struct Run1 {
  const float* a;
  std::int64_t as;
  const float* b;
  std::int64_t bs;
  float* out;
  std::int64_t os, n;
};

template <class F>
OSSICLE_INLINE void one(const Run1& r, F f) {
  for (std::int64_t i = 0; i < r.n; i += L) give(r.out, r.os, i, r.n - i, f(fetch(r.a, r.as, i, r.n - i)));
}
template <class F>
OSSICLE_INLINE void two(const Run1& r, F f) {
  for (std::int64_t i = 0; i < r.n; i += L)
    give(r.out, r.os, i, r.n - i, f(fetch(r.a, r.as, i, r.n - i), fetch(r.b, r.bs, i, r.n - i)));
}
#define OSSICLE_ONE(expression) one(r, [=](vf x) __attribute__((always_inline)) { return expression; })
#define OSSICLE_TWO(expression) two(r, [=](vf x, vf y) __attribute__((always_inline)) { return expression; })

void map_step(Map op, float p, float q, const float* a, std::int64_t as, const float* b, std::int64_t bs, float* out,
              std::int64_t os, std::int64_t n) {
  const Run1 r{a, as, b, bs, out, os, n};
  switch (op) {
    case Map::copy:
      if (as == 1 && os == 1) {
        __builtin_memcpy(out, a, n * sizeof(float));
        return;
      }
      return OSSICLE_ONE(x);
    case Map::neg: return OSSICLE_ONE(-x);
    case Map::abs: return OSSICLE_ONE(absolute(x));
    case Map::sqrt: return OSSICLE_ONE(root(x));
    case Map::square: return OSSICLE_ONE(x * x);
    case Map::reciprocal: return OSSICLE_ONE(1.0f / x);
    case Map::exp: return OSSICLE_ONE(exp_(x));
    case Map::log: return OSSICLE_ONE(log_(x));
    case Map::sigmoid: return OSSICLE_ONE(sigmoid_(x));
    case Map::tanh: return OSSICLE_ONE(tanh_(x));
    case Map::relu: return OSSICLE_ONE(relu_(x));
    case Map::leaky: return OSSICLE_ONE(leaky_(x, p));
    case Map::silu: return OSSICLE_ONE(x * sigmoid_(x));
    case Map::gelu: return OSSICLE_ONE(gelu_(x));
    case Map::clip: return OSSICLE_ONE(clamp(x, p, q));
    case Map::round: return OSSICLE_ONE(pick(absolute(x) < all(4194304.0f), nearest(x), x));
    case Map::quantise_u8: return OSSICLE_ONE(quantised(x, p, q, 0.0f, 255.0f));
    case Map::quantise_i8: return OSSICLE_ONE(quantised(x, p, q, -128.0f, 127.0f));
    case Map::dequantise: return OSSICLE_ONE((x - q) * p);
    case Map::add: return OSSICLE_TWO(x + y);
    case Map::sub: return OSSICLE_TWO(x - y);
    case Map::mul: return OSSICLE_TWO(x * y);
    case Map::div: return OSSICLE_TWO(x / y);
    case Map::least: return OSSICLE_TWO(least(x, y));
    case Map::most: return OSSICLE_TWO(most(x, y));
    case Map::pow:
      for (std::int64_t i = 0; i < n; ++i) out[i * os] = __builtin_powf(a[i * as], b[i * bs]);
      return;
    default: return;
  }
}

void taps_step(const float* x, std::int64_t tap_stride, std::int64_t taps, const float* w, std::int64_t w_stride,
               const float* bias, Act act, float alpha, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; i += L) {
    vf v = get(bias + i, n - i);
    for (std::int64_t k = 0; k < taps; ++k)
      v += get(w + k * w_stride + i, n - i) * get(x + k * tap_stride + i, n - i);
    if (simple(act)) v = act == Act::leaky ? leaky_(v, alpha) : act == Act::relu ? relu_(v) : v;
    put(out + i, v, n - i);
  }
  if (!simple(act)) late(out, nullptr, n, act, alpha);
}

template <class F>
OSSICLE_INLINE float total(const float* x, std::int64_t stride, std::int64_t n, F f) {
  vf v{};
  for (std::int64_t i = 0; i < n; i += L) v += f(fetch(x, stride, i, n - i));
  return sum(v);
}

void norm_row(float epsilon, const float* x, const float* scale, const float* bias, std::int64_t n, float* out) {
  const float mean = total(x, 1, n, [](vf v) __attribute__((always_inline)) { return v; }) / static_cast<float>(n);
  vf squares{};
  for (std::int64_t i = 0; i < n; i += L) {
    vf d = get(x + i, n - i) - mean;
    if (n - i < L)
      for (std::int64_t j = n - i; j < L; ++j) d[j] = 0.0f;
    squares += d * d;
  }
  const float inverse = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + epsilon);
  for (std::int64_t i = 0; i < n; i += L) {
    vf v = (get(x + i, n - i) - mean) * inverse;
    if (scale) v *= get(scale + i, n - i);
    if (bias) v += get(bias + i, n - i);
    put(out + i, v, n - i);
  }
}

float most_of(const float* x, std::int64_t stride, std::int64_t n) {
  float best = x[0];
  for (std::int64_t i = 1; i < n && best == best; ++i)  // NaN is the largest of all
    if (!(x[i * stride] <= best)) best = x[i * stride];
  return best;
}

void softmax_row(const float* x, std::int64_t n, float* out) {
  const float best = most_of(x, 1, n);
  for (std::int64_t i = 0; i < n; i += L) put(out + i, exp_(get(x + i, n - i) - best), n - i);
  const float share = 1.0f / total(out, 1, n, [](vf v) __attribute__((always_inline)) { return v; });
  for (std::int64_t i = 0; i < n; i += L) put(out + i, get(out + i, n - i) * share, n - i);
}

void row_step(Row op, float p, const float* x, std::int64_t stride, const float* scale, const float* bias,
              std::int64_t n, float* out) {
  switch (op) {
    case Row::sum: *out = total(x, stride, n, [](vf v) __attribute__((always_inline)) { return v; }); return;
    case Row::mean:
      *out = total(x, stride, n, [](vf v) __attribute__((always_inline)) { return v; }) / static_cast<float>(n);
      return;
    case Row::sum_square: *out = total(x, stride, n, [](vf v) __attribute__((always_inline)) { return v * v; }); return;
    case Row::most: *out = most_of(x, stride, n); return;
    case Row::norm: return norm_row(p, x, scale, bias, n, out);
    case Row::softmax: return softmax_row(x, n, out);
    default: return;
  }
}

}  // namespace

#define OSSICLE_TEXT2(a) #a
#define OSSICLE_TEXT(a) OSSICLE_TEXT2(a)
extern const native::StepTable step_functions;
const native::StepTable step_functions = {OSSICLE_TEXT(OSSICLE_ISA), kFixedRows, map_step, gemm_step, taps_step, row_step};
}  // namespace ossicle::OSSICLE_NS
