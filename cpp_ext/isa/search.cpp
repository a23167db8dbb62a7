// Nearest-code search: a first pass in int8 or fp32 with a proven error, then an exact decision.
//
// Let B_n bound |first-pass score - true score| of code n. The true best scores at most U, the least of all
// scores plus B_n; so only codes whose score less B_n is at most U are decided by the exact sums, and when a
// single code is left it needs none. B_n uses Cauchy-Schwarz with the errors that were really made:
//   |<r',c'> - <r^,c^>| <= |r' - r^| |c'| + |r^| |c' - c^|   (+ fp32 rounding of the sums).
// In a book of sums c^ is a^_i + b^_j, its products are sums of the parts' products, and its error is at most
// the sum of theirs.
#include "exact.hpp"
#include "kernels.hpp"
#include "tiles.hpp"
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace ossicle::OSSICLE_NS {
namespace {

constexpr std::int64_t kTile = OSSICLE_SEARCH_TILE;
constexpr std::int64_t kSmall = 1 << 15;  // bytes of a layer that is asked for ahead: more would not stay near
constexpr int kAsk = 16;  // lines asked for at a time: of 8, 12, 16 and 24 the best, and all others while rows come
constexpr std::int64_t kMany = 4096;  // codes looked through before rows are read
constexpr float kUnit = 5.9604645e-8f;  // 2^-24
constexpr float kFine = 1.0f / 254.0f;  // of a byte's step: half of one is 127 of these

// acc[i] += sum of 4 products of unsigned codes and signed residual bytes, W codes a group.
#if defined(__AVX512VNNI__)
template <int Q, int W>
OSSICLE_INLINE void dot_group(const std::uint8_t* codes, const std::int8_t* q, std::int64_t stride,
                              std::int64_t steps, const std::int32_t* shift, std::int32_t (*out)[W]) {
  constexpr int V = W / 16;
  __m512i acc[Q][V];
  for (int t = 0; t < Q; ++t)
    for (int j = 0; j < V; ++j) acc[t][j] = _mm512_set1_epi32(-shift[t]);
  for (std::int64_t s = 0; s < steps; ++s) {
    __m512i c[V];
    for (int j = 0; j < V; ++j) c[j] = _mm512_loadu_si512(codes + s * 4 * W + 64 * j);
    for (int t = 0; t < Q; ++t) {
      std::int32_t four;
      __builtin_memcpy(&four, q + t * stride + 4 * s, 4);
      const __m512i x = _mm512_set1_epi32(four);
      for (int j = 0; j < V; ++j) acc[t][j] = _mm512_dpbusd_epi32(acc[t][j], c[j], x);
    }
  }
  for (int t = 0; t < Q; ++t)
    for (int j = 0; j < V; ++j) _mm512_storeu_si512(out[t] + 16 * j, acc[t][j]);
}
#elif defined(__ARM_FEATURE_DOTPROD)
// Here both factors are signed: codes less 128, and then nothing is left to be taken off.
template <int Q, int W>
OSSICLE_INLINE void dot_group(const std::uint8_t* codes, const std::int8_t* q, std::int64_t stride,
                              std::int64_t steps, const std::int32_t*, std::int32_t (*out)[W]) {
  constexpr int V = W < 16 ? W / 4 : 4;  // vectors of four codes at a time
  for (int n = 0; n < W; n += 4 * V) {
    int32x4_t acc[Q][V];
    for (int t = 0; t < Q; ++t)
      for (int j = 0; j < V; ++j) acc[t][j] = vdupq_n_s32(0);
    for (std::int64_t s = 0; s < steps; ++s) {
      int8x16_t c[V];
      for (int j = 0; j < V; ++j)
        c[j] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + s * 4 * W + 4 * n + 16 * j), vdupq_n_u8(128)));
      for (int t = 0; t < Q; ++t) {
        std::int32_t four;
        __builtin_memcpy(&four, q + t * stride + 4 * s, 4);
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
        for (int j = 0; j < V; ++j) acc[t][j] = vdotq_s32(acc[t][j], c[j], x);
      }
    }
    for (int t = 0; t < Q; ++t)
      for (int j = 0; j < V; ++j) vst1q_s32(out[t] + n + 4 * j, acc[t][j]);
  }
}
#else
template <int Q, int W>
OSSICLE_INLINE void dot_group(const std::uint8_t* codes, const std::int8_t* q, std::int64_t stride,
                              std::int64_t steps, const std::int32_t* shift, std::int32_t (*out)[W]) {
  for (int t = 0; t < Q; ++t)
    for (int n = 0; n < W; ++n) {
      std::int32_t a = -shift[t];
      for (std::int64_t s = 0; s < steps; ++s)
        for (int i = 0; i < 4; ++i)
          a += std::int32_t(codes[s * 4 * W + 4 * n + i]) * q[t * stride + 4 * s + i];
      out[t][n] = a;
    }
}
#endif

// What is read next, asked for a little at a time while this layer is searched: a book that lies in the third
// cache comes at 64 bytes in 2 ns, and a search that waits for it takes three times as long.
struct Ahead {
  const unsigned char* at = nullptr;
  const unsigned char* end = nullptr;

  inline __attribute__((always_inline)) void ask(int lines) {
    for (int i = 0; i < lines && at < end; ++i, at += 64) __builtin_prefetch(at);
  }
};

// r' in fp32 and its norm; in int8 also the bytes, their scale and the error made.
struct Facts {
  float scale, norm, error;
};

// Floats as whole steps in a byte each, and 128 times the sum of those bytes.
struct Bytes {
  vi total{};

  // Writes a register's bytes; returns what they leave over.
  inline __attribute__((always_inline)) vf take(vf v, float inverse, float scale, std::int8_t* to) {
    const vf n = nearest(v * inverse);
    const vi bytes = toint(n);
    total += bytes;
    typedef std::int8_t vb __attribute__((vector_size(L), aligned(1), may_alias));
    *reinterpret_cast<vb*>(to) = __builtin_convertvector(bytes, vb);
    return v - n * scale;
  }
  inline __attribute__((always_inline)) std::int32_t shift() const {
    return 128 * static_cast<std::int32_t>(sum(tofloat(total)));  // whole numbers far below 2^24
  }
};

// A residual that comes alone (`fine`) has two bytes each, [2, Dp] in low: the second, in steps of kFine, is what the first
// leaves over. Its dots cost little while the codes are on their way, and fewer rows are left to be decided exactly.
OSSICLE_INLINE Facts centre(const Layer& layer, const Books& b, const double* r, float* centred,
                            std::int8_t* low, std::int32_t* shift, bool fine) {
  for (std::int64_t d = 0; d < b.D; ++d) centred[d] = static_cast<float>(r[d] - static_cast<double>(layer.mean[d]));
  for (std::int64_t d = b.D; d < b.Dp; ++d) centred[d] = 0.0f;
  vf squares{}, peak{};
  for (std::int64_t d = 0; d < b.Dp; d += L) {
    const vf v = load(centred + d);
    squares += v * v;
    peak = most(peak, absolute(v));
  }
  Facts f{0.0f, __builtin_sqrtf(sum(squares)) * 1.00001f, 0.0f};
  if (!layer.pass.low) return f;
  const float top = highest(peak);
  f.scale = top / 127.0f;
  const float inverse = f.scale > 0.0f ? 1.0f / f.scale : 0.0f;
  if (!(inverse < 1e36f) || !(f.norm < 3e38f)) {  // too small or too large for fp32 to scale: decide exactly
    f.norm = __builtin_inff();
    for (std::int64_t d = 0; d < (fine ? 2 : 1) * b.Dp; ++d) low[d] = 0;
    shift[0] = 0;
    if (fine) shift[1] = 0;
    return f;
  }
  Bytes first, second;
  vf errors{};
  for (std::int64_t d = 0; d < b.Dp; d += L) {
    vf e = first.take(load(centred + d), inverse, f.scale, low + d);
    if (fine) e = second.take(e, inverse / kFine, f.scale * kFine, low + b.Dp + d);
    errors += e * e;
  }
  f.error = __builtin_sqrtf(sum(errors)) * 1.00001f;
  shift[0] = first.shift();
  if (fine) shift[1] = second.shift();
  return f;
}

// How far scores may be off. Of code n: |r' - r^| (steep h_n + flat) + reach (its parts' errors) + the rest.
struct Doubt {
  float tilt;   // |r' - r^| steep
  float reach;  // at least |r^|
  float rest;
};

OSSICLE_INLINE Doubt doubt(const Layer& layer, const Books& b, const Facts& f) {
  const float reach = f.norm + f.error, product = reach * layer.part_max * 1.01f;
  const float span = f.norm + layer.row_max;
  const float tilt = f.error * layer.steep * 1.0001f;
  float rest = f.error * layer.flat + reach * layer.slack;
  rest += kUnit * 48.0f * (layer.half_max * (1.0f + tilt) + product);          // rounding of the scores
  rest += layer.half_off * (1.0f + tilt);
  if (!layer.pass.low) rest += kUnit * static_cast<float>(b.D + 8) * product;  // and of a sum of D terms
  rest += 1.2e-16f * static_cast<float>(b.D + 8) * span * span;                // and of the exact sums
  rest += 1e-15f * layer.mean_norm * span;                                     // and of r - mean
  return {tilt, reach * 1.0001f, rest * 1.0001f + 1e-30f};  // products below the smallest fp32
}

template <int Q, int W>
void pass_low(const Rows& rows, const Books& b, const SearchScratch& s, float* to, std::int64_t g,
              std::int64_t t0) {
  alignas(64) std::int32_t dots[Q][W];
  const std::int64_t steps = b.Dp / 4;
  dot_group<Q, W>(rows.low + g * steps * 4 * W, s.low + t0 * b.Dp, b.Dp, steps, s.shift + t0, dots);
  for (int t = 0; t < Q; ++t) {
    const vf scale = all(s.facts[(t0 + t) * 4]);
    float* out = to + (t0 + t) * b.Np + g * W;
    for (int j = 0; j < W; j += L)
      store(out + j, (scale * load(rows.scale + g * W + j)) * tofloat(loadi(dots[t] + j)));
  }
}

// One residual of two bytes: the codes are read once for both.
template <int W>
void pass_fine(const Rows& rows, const Books& b, const SearchScratch& s, float* to, std::int64_t g) {
  alignas(64) std::int32_t dots[2][W];
  const std::int64_t steps = b.Dp / 4;
  dot_group<2, W>(rows.low + g * steps * 4 * W, s.low, b.Dp, steps, s.shift, dots);
  const vf scale = all(s.facts[0]);
  for (int j = 0; j < W; j += L) {
    const vf both = tofloat(loadi(dots[1] + j)) * kFine + tofloat(loadi(dots[0] + j));
    store(to + g * W + j, (scale * load(rows.scale + g * W + j)) * both);
  }
}

template <int Q, int W>  // W registers of codes at once
OSSICLE_INLINE void pass_wide(const Rows& packed, const Books& b, const SearchScratch& s, float* to,
                              std::int64_t g, std::int64_t t0, int lane) {
  vf acc[Q][W] = {};
  const int group = packed.group;
  const float* rows = packed.wide + g * b.D * group + lane;
  const float* x = s.centred + t0 * b.Dp;
  std::int64_t d = 0;
  if constexpr (Q * W <= 4) {  // few sums: break the chain of additions
    vf more[3][Q][W] = {};
    for (; d + 4 <= b.D; d += 4)
      for (int u = 0; u < 4; ++u)
        for (int w = 0; w < W; ++w) {
          const vf c = load(rows + (d + u) * group + w * L);
          for (int t = 0; t < Q; ++t) {
            if (u == 0) acc[t][w] += c * x[t * b.Dp + d];
            else more[u - 1][t][w] += c * x[t * b.Dp + d + u];
          }
        }
    for (int t = 0; t < Q; ++t)
      for (int w = 0; w < W; ++w) acc[t][w] = (acc[t][w] + more[0][t][w]) + (more[1][t][w] + more[2][t][w]);
  }
  for (; d < b.D; ++d)
    for (int w = 0; w < W; ++w) {
      const vf c = load(rows + d * group + w * L);
      for (int t = 0; t < Q; ++t) acc[t][w] += c * x[t * b.Dp + d];
    }
  for (int t = 0; t < Q; ++t)
    for (int w = 0; w < W; ++w) {
      const std::int64_t n = g * group + lane + w * L;
      store(to + (t0 + t) * b.Np + n, acc[t][w]);
    }
}

template <int Q>
void first_pass(const Rows& rows, const Books& b, const SearchScratch& s, float* to, std::int64_t g,
                std::int64_t t0) {
  if (rows.low) {
    if (rows.group == 16) return pass_low<Q, 16>(rows, b, s, to, g, t0);
    return pass_low<Q, 64>(rows, b, s, to, g, t0);
  }
  constexpr int W = OSSICLE_LANES == 16 ? 4 : 2;
  if (rows.group == 16) {
    constexpr int W16 = R < W ? R : W;
    for (int lane = 0; lane < 16; lane += W16 * L) pass_wide<Q, W16>(rows, b, s, to, g, t0, lane);
  } else {
    for (int lane = 0; lane < 64; lane += W * L) pass_wide<Q, W>(rows, b, s, to, g, t0, lane);
  }
}

// A tile of residuals over packed rows.
void all_rows(const Rows& rows, const Books& b, const SearchScratch& s, float* to, std::int64_t tile, Ahead& ahead) {
  for (std::int64_t g = 0; g < rows.count / rows.group; ++g) {
    ahead.ask(kAsk);
    if (rows.low && tile == 1) {
      rows.group == 16 ? pass_fine<16>(rows, b, s, to, g) : pass_fine<64>(rows, b, s, to, g);
      continue;
    }
    std::int64_t t = 0;
    for (; t + 4 <= tile; t += 4) first_pass<4>(rows, b, s, to, g, t);
    if (t + 2 <= tile) first_pass<2>(rows, b, s, to, g, t), t += 2;
    if (t < tile) first_pass<1>(rows, b, s, to, g, t);
  }
}

#if defined(__AMX_TILE__)

// The same integers for 16 residuals at once: residuals are the rows of the left tile, 64 of their bytes its
// columns; 16 codes by 64 bytes of the packed group are the right one. Tiles 6 and 7 hold what is left of D.
OSSICLE_INLINE void tile_dots(const std::uint8_t* codes, const std::int8_t* q, std::int64_t Dp,
                              std::int32_t (*out)[64]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  std::int64_t d = 0;
  for (; d + 64 <= Dp; d += 64, codes += 16 * 256) {
    _tile_loadd(4, q + d, Dp);
    _tile_loadd(5, codes, 256);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(5, codes + 64, 256);
    _tile_dpbsud(1, 4, 5);
    _tile_loadd(5, codes + 128, 256);
    _tile_dpbsud(2, 4, 5);
    _tile_loadd(5, codes + 192, 256);
    _tile_dpbsud(3, 4, 5);
  }
  if (d < Dp) {
    _tile_loadd(6, q + d, Dp);
    _tile_loadd(7, codes, 256);
    _tile_dpbsud(0, 6, 7);
    _tile_loadd(7, codes + 64, 256);
    _tile_dpbsud(1, 6, 7);
    _tile_loadd(7, codes + 128, 256);
    _tile_dpbsud(2, 6, 7);
    _tile_loadd(7, codes + 192, 256);
    _tile_dpbsud(3, 6, 7);
  }
  _tile_stored(0, out[0], 256);
  _tile_stored(1, out[0] + 16, 256);
  _tile_stored(2, out[0] + 32, 256);
  _tile_stored(3, out[0] + 48, 256);
}

void shape_tiles(std::int64_t rows, std::int64_t Dp) {
  TileShapes shapes;
  for (int tile = 0; tile < 5; ++tile) shapes.set(tile, rows, 64);
  shapes.set(5, 16, 64);
  if (Dp % 64) shapes.set(6, rows, Dp % 64), shapes.set(7, Dp % 64 / 4, 64);
  shapes.load();
}

void all_rows_tiled(const Rows& rows, const Books& b, const SearchScratch& s, float* to,
                    std::int64_t tile) {
  alignas(64) std::int32_t dots[16][64];
  const TileScope scope;
  std::int64_t shaped = 0;
  for (std::int64_t g = 0; g < rows.count / 64; ++g)
    for (std::int64_t t0 = 0; t0 < tile; t0 += 16) {
      const std::int64_t some = tile - t0 < 16 ? tile - t0 : 16;
      if (some != shaped) shape_tiles(some, b.Dp), shaped = some;
      settle();
      tile_dots(rows.low + g * b.Dp * 64, s.low + t0 * b.Dp, b.Dp, dots);
      for (int j = 0; j < 64; j += L) {
        const vf scale = load(rows.scale + g * 64 + j);
        for (std::int64_t t = 0; t < some; ++t) {
          const vi dot = loadi(dots[t] + j) - alli(s.shift[t0 + t]);
          store(to + (t0 + t) * b.Np + g * 64 + j, (all(s.facts[(t0 + t) * 4]) * scale) * tofloat(dot));
        }
      }
    }
}

#endif

void pass_over(const Rows& rows, const Books& b, const SearchScratch& s, float* to, std::int64_t tile, Ahead& ahead) {
#if defined(__AMX_TILE__)
  if (rows.low && rows.group == 64 && tile >= 4) return all_rows_tiled(rows, b, s, to, tile);
#endif
  all_rows(rows, b, s, to, tile, ahead);
}

// Products of a tile of residuals with everything packed: a_i, then b_j (if there are any).
void all_parts(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t tile, Ahead& ahead) {
  pass_over(layer.pass, b, s, s.parts, tile, ahead);
  if (!layer.outer.count) return;
  float* const outer = s.parts + layer.pass.count;
  pass_over(layer.outer, b, s, outer, tile, ahead);
  if (!layer.outer.split) return;
  for (std::int64_t t = 0; t < tile; ++t)  // what the first eight leave over lies behind them
    for (int j = 0; j < 8; ++j) outer[t * b.Np + j] += outer[t * b.Np + 8 + j];
}

OSSICLE_INLINE double exact_score(const Layer& layer, const Books& b, const double* r, std::int64_t n) {
  const float* c = layer.rows + n * b.D;
  if (!b.cosine) return exact_distance(r, c, b.D);
  return layer.norm[n] > 0.0 ? -(exact_dot(r, c, b.D) / layer.norm[n]) : 0.0;
}

// What one packed row's product may be off by, for a residual of length `reach`.
OSSICLE_INLINE vf error_of(const Rows& rows, std::int64_t i, float reach) {
  const vf off = all(rows.off * reach);
  return rows.scale ? load(rows.scale + i) * (rows.rough * reach) + off : off;
}

typedef std::uint16_t vs __attribute__((vector_size(2 * L), aligned(2), may_alias));
// h_n but for its step and its low end.
OSSICLE_INLINE vf halves(const Layer& layer, std::int64_t n) {
  return tofloat(__builtin_convertvector(*reinterpret_cast<const vs*>(layer.half + n), vi));
}

// Of each packed row its product less and more by what it may be off: edges [count] and [Np + count]; both less what
// is added to them in any case, `low` and `high`.
OSSICLE_INLINE void spread(const Rows& rows, const float* parts, float reach, float low, float high, float* edges,
                           std::int64_t Np) {
  for (std::int64_t i = 0; i < rows.count; i += L) {
    const vf p = load(parts + i), e = error_of(rows, i, reach);
    store(edges + i, (p - e) - low);
    store(edges + Np + i, (p + e) - high);
  }
}

// The least that the best code can be proven to score, U. To floor goes, of each run of 64 codes, the least that they
// may score (but for their second part), lane by lane: [Np / 64, L].
OSSICLE_INLINE float ceiling(const Layer& layer, const Books& b, const Doubt& d, const float* edges, float* floor,
                             Ahead& ahead) {
  const std::int64_t I = layer.pass.count;
  const vf more = all(layer.half_step * (1.0f + d.tilt)), less = all(layer.half_step * (1.0f - d.tilt));
  const vf far = all(__builtin_inff());
  vf low = far;
  for (std::int64_t n0 = 0, j = 0; n0 < b.Np; n0 += I, ++j) {
    vf of[2] = {far, far};
    for (std::int64_t i = 0; i < I; i += 64, floor += L) {
      vf under[2] = {far, far};
      for (std::int64_t at = i; at < i + 64; at += 2 * L)
        for (int c = 0; c < 2; ++c) {
          const vf half = halves(layer, n0 + at + c * L);
          of[c] = least(of[c], half * more - load(edges + at + c * L));
          under[c] = least(under[c], half * less - load(edges + b.Np + at + c * L));
        }
      store(floor, least(under[0], under[1]));
    }
    const vf both = least(of[0], of[1]);
    low = layer.outer.count ? least(low, both - all(edges[I + j])) : least(low, both);
    ahead.ask(2);
  }
  return lowest(low) + d.rest;
}

// U of a single residual in a plain book, and what decide reads besides: each group's bounds are taken while the codes of
// the next ones are on their way, since a large book is waited for longer than it is worked on. Nothing else is asked for
// meanwhile.
OSSICLE_INLINE float ceiling_alone(const Layer& layer, const Books& b, const SearchScratch& s, const Doubt& d) {
  const vf more = all(layer.half_step * (1.0f + d.tilt)), less = all(layer.half_step * (1.0f - d.tilt));
  const vf low = all(layer.half_low * (1.0f + d.tilt)), high = all(layer.half_low * (1.0f - d.tilt));
  const vf far = all(__builtin_inff());
  float* floor = s.edges + 2 * b.Np;
  vf of[2] = {far, far};
  for (std::int64_t g = 0; g < layer.pass.count / 64; ++g, floor += L) {
    pass_fine<64>(layer.pass, b, s, s.parts, g);
    vf under[2] = {far, far};
    for (std::int64_t at = 64 * g; at < 64 * g + 64; at += 2 * L)
      for (int c = 0; c < 2; ++c) {
        const std::int64_t i = at + c * L;
        const vf p = load(s.parts + i), e = error_of(layer.pass, i, d.reach), half = halves(layer, i);
        const vf upper = (p + e) - high;
        store(s.edges + b.Np + i, upper);
        of[c] = least(of[c], half * more - ((p - e) - low));
        under[c] = least(under[c], half * less - upper);
      }
    store(floor, least(under[0], under[1]));
  }
  return lowest(least(of[0], of[1])) + d.rest;
}

// Bits of 64 codes from n on that may score at most limit, their first parts from `inner` on.
OSSICLE_INLINE std::uint64_t within(const Layer& layer, std::int64_t n, const float* inner, vf less, vf limit) {
  std::uint64_t bits = 0;
  for (int j = 0; j < 64; j += L)
    bits |= static_cast<std::uint64_t>(lanes_of(halves(layer, n + j) * less - load(inner + j) <= limit)) << j;
  return bits;
}

// The lowest-numbered best code so far, and its score once it was needed.
struct Best {
  std::int64_t code = -1;
  double score = 0.0;
  bool scored = false;
};

// Decides among the codes n0 + i whose bit i is set.
OSSICLE_INLINE void take_best(const Layer& layer, const Books& b, const double* r, std::int64_t n0, std::uint64_t left,
                              Best& best) {
  for (; left; left &= left - 1) {
    const std::int64_t n = n0 + __builtin_ctzll(left);
    if (best.code < 0) {
      best.code = n;
      continue;
    }
    if (!best.scored) best.score = exact_score(layer, b, r, best.code), best.scored = true;
    const double score = exact_score(layer, b, r, n);
    if (score < best.score) best.code = n, best.score = score;
  }
}

// Their rows lie cold and far apart; one after the other they cost as much as the rest of the search.
OSSICLE_INLINE void ask_rows(const Layer& layer, const Books& b, std::int64_t n0, std::uint64_t left) {
  for (; left; left &= left - 1) {
    const float* row = layer.rows + (n0 + __builtin_ctzll(left)) * b.D;
    for (std::int64_t d = 0; d < b.D && d < 128; d += 16) __builtin_prefetch(row + d);
  }
}

OSSICLE_INLINE std::uint64_t first(std::int64_t count) {
  return count < 64 ? (std::uint64_t{1} << count) - 1 : ~std::uint64_t{0};
}

// A book of 16 rows at most, in registers: the same bounds without a pass over memory for each.
OSSICLE_INLINE std::int64_t decide_small(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t t,
                                         const Doubt& d) {
  const float* parts = s.parts + t * b.Np;
  const vf more = all(1.0f + d.tilt), less = all(1.0f - d.tilt);
  vf low = all(__builtin_inff()), floor[R];
  for (int j = 0; j < R; ++j) {
    const vf p = load(parts + j * L), e = error_of(layer.pass, j * L, d.reach);
    const vf half = halves(layer, j * L) * layer.half_step + layer.half_low;
    low = least(low, half * more - (p - e));
    floor[j] = half * less - (p + e);
  }
  const float U = lowest(low) + d.rest;
  std::uint64_t left = ~std::uint64_t{0};
  if (__builtin_isfinite(U)) {
    left = 0;
    for (int j = 0; j < R; ++j) left |= static_cast<std::uint64_t>(lanes_of(floor[j] <= all(U + d.rest))) << (j * L);
  }
  Best best;
  take_best(layer, b, s.residual + t * b.Dp, 0, left & first(b.N), best);
  return best.code < 0 ? 0 : best.code;
}

// U of residual t from its products with all parts.
OSSICLE_INLINE float ceiling_of(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t t,
                                const Doubt& d, Ahead& ahead) {
  const float* parts = s.parts + t * b.Np;
  ahead.ask(kAsk);
  const std::int64_t I = layer.pass.count;
  const float base = layer.half_low;
  spread(layer.pass, parts, d.reach, base * (1.0f + d.tilt), base * (1.0f - d.tilt), s.edges, b.Np);
  spread(layer.outer, parts + I, d.reach, 0.0f, 0.0f, s.edges + I, b.Np);
  return ceiling(layer, b, d, s.edges, s.edges + 2 * b.Np, ahead);
}

// The lowest-numbered best code among those that may be it (all of them if no bound is finite).
OSSICLE_INLINE std::int64_t decide(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t t,
                                   const Doubt& d, float U, Ahead& ahead) {
  const float* const floor = s.edges + 2 * b.Np;
  const std::int64_t I = layer.pass.count;
  const bool sure = __builtin_isfinite(U);
  const float *const of_inner = s.edges + b.Np, *const of_outer = of_inner + I;
  const vf less = all(layer.half_step * (1.0f - d.tilt));
  Best best;
  std::int64_t at = 0, j = 0;  // of a code n = j I + at
  for (std::int64_t n0 = 0; n0 < b.Np; n0 += kMany) {
    // First which rows they are, and all of them asked for at once; then the sums.
    std::int64_t runs[kMany / 64], found = 0;
    std::uint64_t left[kMany / 64];
    const std::int64_t end = b.Np - n0 < kMany ? b.Np : n0 + kMany;
    for (std::int64_t n = n0; n < end; n += 64) {
      const vf limit = all((U + d.rest) + (layer.outer.count ? of_outer[j] : 0.0f));
      if (!sure || lanes_of(load(floor + n / 64 * L) <= limit)) {
        runs[found] = n;
        left[found] = (sure ? within(layer, n, of_inner + at, less, limit) : ~std::uint64_t{0}) & first(b.N - n);
        if (sure) ask_rows(layer, b, n, left[found]);
        ++found;
      }
      if ((at += 64) == I) at = 0, ++j;
    }
    ahead.ask(kSmall / 64);
    for (std::int64_t i = 0; i < found; ++i) take_best(layer, b, s.residual + t * b.Dp, runs[i], left[i], best);
  }
  return best.code < 0 ? 0 : best.code;
}

}  // namespace

void search(const Books& b, const void* x, bool wide, std::int64_t T, std::int64_t layers,
            std::int32_t* codes, std::int64_t stride, const SearchScratch& s) {
  for (std::int64_t t0 = 0; t0 < T; t0 += kTile) {
    const std::int64_t tile = T - t0 < kTile ? T - t0 : kTile;
    for (std::int64_t t = 0; t < tile; ++t)
      for (std::int64_t d = 0; d < b.D; ++d) {
        const std::int64_t i = (t0 + t) * b.D + d;
        const double v = wide ? static_cast<const double*>(x)[i] : static_cast<const float*>(x)[i];
        s.residual[t * b.Dp + d] = __builtin_isfinite(v) ? v : 0.0;
      }
    for (std::int64_t k = 0; k < layers; ++k) {
      const Layer& layer = b.layers[k];
      Ahead ahead;
      if (k + 1 < layers && b.Np > 16 && b.layers[k + 1].bytes <= kSmall)
        ahead = {b.layers[k + 1].tables, b.layers[k + 1].tables + b.layers[k + 1].bytes};
      ahead.ask(kAsk);
      Doubt doubts[kTile];
      for (std::int64_t t = 0; t < tile; ++t) {
        const Facts f = centre(layer, b, s.residual + t * b.Dp, s.centred + t * b.Dp,
                               s.low + t * b.Dp, s.shift + t, tile == 1);
        s.facts[4 * t] = f.scale;
        doubts[t] = doubt(layer, b, f);
      }
      const bool alone = tile == 1 && layer.pass.low && !layer.outer.count;
      if (!alone) all_parts(layer, b, s, tile, ahead);
      for (std::int64_t t = 0; t < tile; ++t) {
        double* r = s.residual + t * b.Dp;
        std::int64_t n;
        if (b.Np == 16) {
          n = decide_small(layer, b, s, t, doubts[t]);
        } else {
          const float U = alone ? ceiling_alone(layer, b, s, doubts[t]) : ceiling_of(layer, b, s, t, doubts[t], ahead);
          n = decide(layer, b, s, t, doubts[t], U, ahead);
        }
        codes[k * stride + t0 + t] = static_cast<std::int32_t>(n);
        if (k + 1 < layers) subtract(r, layer.rows + n * b.D, b.D);
      }
    }
  }
}

}  // namespace ossicle::OSSICLE_NS
