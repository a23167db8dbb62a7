// Nearest-code search: a first pass in int8 or fp32 with a proven error, then an exact decision.
//
// Let B bound |first-pass score - true score| for every code. The true best then scores at most 2 B
// above the first pass's best, so only those codes are decided by the exact sums; when a single code is
// left it needs none. B uses Cauchy-Schwarz with the errors that were really made:
//   |<r',c'> - <r^,c^>| <= |r' - r^| max|c'| + |r^| max|c' - c^|   (+ fp32 rounding of the sums).
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
constexpr float kUnit = 5.9604645e-8f;  // 2^-24

// acc[i] += sum of 4 products of unsigned codes and signed residual bytes, 64 codes a group.
#if defined(__AVX512VNNI__)
template <int Q>
OSSICLE_INLINE void dot_group(const std::uint8_t* codes, const std::int8_t* q, std::int64_t stride,
                              std::int64_t steps, const std::int32_t* shift, std::int32_t (*out)[64]) {
  __m512i acc[Q][4];
  for (int t = 0; t < Q; ++t)
    for (int j = 0; j < 4; ++j) acc[t][j] = _mm512_set1_epi32(-shift[t]);
  for (std::int64_t s = 0; s < steps; ++s) {
    __m512i c[4];
    for (int j = 0; j < 4; ++j) c[j] = _mm512_loadu_si512(codes + s * 256 + 64 * j);
    for (int t = 0; t < Q; ++t) {
      std::int32_t four;
      __builtin_memcpy(&four, q + t * stride + 4 * s, 4);
      const __m512i x = _mm512_set1_epi32(four);
      for (int j = 0; j < 4; ++j) acc[t][j] = _mm512_dpbusd_epi32(acc[t][j], c[j], x);
    }
  }
  for (int t = 0; t < Q; ++t)
    for (int j = 0; j < 4; ++j) _mm512_storeu_si512(out[t] + 16 * j, acc[t][j]);
}
#else
template <int Q>
OSSICLE_INLINE void dot_group(const std::uint8_t* codes, const std::int8_t* q, std::int64_t stride,
                              std::int64_t steps, const std::int32_t* shift, std::int32_t (*out)[64]) {
  for (int t = 0; t < Q; ++t)
    for (int n = 0; n < 64; ++n) {
      std::int32_t a = -shift[t];
      for (std::int64_t s = 0; s < steps; ++s)
        for (int i = 0; i < 4; ++i)
          a += std::int32_t(codes[s * 256 + 4 * n + i]) * q[t * stride + 4 * s + i];
      out[t][n] = a;
    }
}
#endif

// r' in fp32 and its norm; in int8 also the bytes, their scale and the error made.
struct Facts {
  float scale, norm, error;
};

OSSICLE_INLINE Facts centre(const Layer& layer, const Books& b, const double* r, float* centred,
                            std::int8_t* low, std::int32_t* shift) {
  for (std::int64_t d = 0; d < b.D; ++d) centred[d] = static_cast<float>(r[d] - layer.mean[d]);
  for (std::int64_t d = b.D; d < b.Dp; ++d) centred[d] = 0.0f;
  vf squares{}, peak{};
  for (std::int64_t d = 0; d < b.Dp; d += L) {
    const vf v = load(centred + d);
    squares += v * v;
    peak = most(peak, absolute(v));
  }
  Facts f{0.0f, __builtin_sqrtf(sum(squares)) * 1.00001f, 0.0f};
  if (!layer.low) return f;
  const float top = highest(peak);
  f.scale = top / 127.0f;
  const float inverse = f.scale > 0.0f ? 1.0f / f.scale : 0.0f;
  if (!(inverse < 3e38f) || !(f.norm < 3e38f)) {  // too small or too large for fp32 to scale: decide exactly
    f.norm = __builtin_inff();
    for (std::int64_t d = 0; d < b.Dp; ++d) low[d] = 0;
    *shift = 0;
    return f;
  }
  vf errors{};
  vi total{};
  for (std::int64_t d = 0; d < b.Dp; d += L) {
    const vf v = load(centred + d);
    const vf n = nearest(v * inverse);
    const vf e = v - n * f.scale;
    errors += e * e;
    const vi bytes = toint(n);
    total += bytes;
    typedef std::int8_t vb __attribute__((vector_size(L), aligned(1), may_alias));
    *reinterpret_cast<vb*>(low + d) = __builtin_convertvector(bytes, vb);
  }
  f.error = __builtin_sqrtf(sum(errors)) * 1.00001f;
  *shift = 128 * static_cast<std::int32_t>(sum(tofloat(total)));  // whole numbers far below 2^24
  return f;
}

OSSICLE_INLINE float bound(const Layer& layer, const Books& b, const Facts& f) {
  const float reach = (f.norm + f.error) * (layer.row_max + layer.error_max);
  const float span = f.norm + layer.row_max;
  float B = f.error * layer.row_max + (f.norm + f.error) * layer.error_max;
  B += kUnit * 24.0f * (layer.half_max + reach);                      // rounding of the scores
  if (!layer.low) B += kUnit * static_cast<float>(b.D + 8) * reach;   // and of a sum of D terms
  B += 1.2e-16f * static_cast<float>(b.D + 8) * span * span;          // and of the exact sums
  B += 1e-15f * layer.mean_norm * span;                               // and of r - mean
  return B * 1.0001f + 1e-30f;  // products below the smallest fp32
}

template <int Q>
void scores_low(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t g,
                std::int64_t t0) {
  alignas(64) std::int32_t dots[Q][64];
  const std::int64_t steps = b.Dp / 4;
  dot_group<Q>(layer.low + g * steps * 256, s.low + t0 * b.Dp, b.Dp, steps, s.shift + t0, dots);
  for (int t = 0; t < Q; ++t) {
    const vf scale = all(s.facts[(t0 + t) * 4]);
    float* out = s.scores + (t0 + t) * b.Np + g * 64;
    for (int j = 0; j < 64; j += L)
      store(out + j, load(layer.half + g * 64 + j) -
                         (scale * load(layer.scale + g * 64 + j)) * tofloat(loadi(dots[t] + j)));
  }
}

template <int Q, int W>  // W registers of codes at once
OSSICLE_INLINE void scores_wide(const Layer& layer, const Books& b, const SearchScratch& s,
                                std::int64_t g, std::int64_t t0, int lane) {
  vf acc[Q][W] = {};
  const float* rows = layer.wide + g * b.D * b.group + lane;
  const float* x = s.centred + t0 * b.Dp;
  std::int64_t d = 0;
  if constexpr (Q * W <= 4) {  // few sums: break the chain of additions
    vf more[3][Q][W] = {};
    for (; d + 4 <= b.D; d += 4)
      for (int u = 0; u < 4; ++u)
        for (int w = 0; w < W; ++w) {
          const vf c = load(rows + (d + u) * b.group + w * L);
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
      const vf c = load(rows + d * b.group + w * L);
      for (int t = 0; t < Q; ++t) acc[t][w] += c * x[t * b.Dp + d];
    }
  for (int t = 0; t < Q; ++t)
    for (int w = 0; w < W; ++w) {
      const std::int64_t n = g * b.group + lane + w * L;
      store(s.scores + (t0 + t) * b.Np + n, load(layer.half + n) - acc[t][w]);
    }
}

template <int Q>
void first_pass(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t g,
                std::int64_t t0) {
  if (layer.low) return scores_low<Q>(layer, b, s, g, t0);
  constexpr int W = OSSICLE_LANES == 16 ? 4 : 2;
  if (b.group == 16) {
    constexpr int W16 = R < W ? R : W;
    for (int lane = 0; lane < 16; lane += W16 * L) scores_wide<Q, W16>(layer, b, s, g, t0, lane);
  } else {
    for (int lane = 0; lane < 64; lane += W * L) scores_wide<Q, W>(layer, b, s, g, t0, lane);
  }
}

// The scores of a tile of residuals over all codes.
void all_scores(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t tile) {
  for (std::int64_t g = 0; g < b.Np / b.group; ++g) {
    std::int64_t t = 0;
    for (; t + 4 <= tile; t += 4) first_pass<4>(layer, b, s, g, t);
    if (t + 2 <= tile) first_pass<2>(layer, b, s, g, t), t += 2;
    if (t < tile) first_pass<1>(layer, b, s, g, t);
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

void all_scores_tiled(const Layer& layer, const Books& b, const SearchScratch& s, std::int64_t tile) {
  alignas(64) std::int32_t dots[16][64];
  const TileScope scope;
  std::int64_t shaped = 0;
  for (std::int64_t g = 0; g < b.Np / 64; ++g)
    for (std::int64_t t0 = 0; t0 < tile; t0 += 16) {
      const std::int64_t rows = tile - t0 < 16 ? tile - t0 : 16;
      if (rows != shaped) shape_tiles(rows, b.Dp), shaped = rows;
      settle();
      tile_dots(layer.low + g * b.Dp * 64, s.low + t0 * b.Dp, b.Dp, dots);
      for (int j = 0; j < 64; j += L) {
        const vf half = load(layer.half + g * 64 + j), scale = load(layer.scale + g * 64 + j);
        for (std::int64_t t = 0; t < rows; ++t) {
          const vi dot = loadi(dots[t] + j) - alli(s.shift[t0 + t]);
          store(s.scores + (t0 + t) * b.Np + g * 64 + j, half - (all(s.facts[(t0 + t) * 4]) * scale) * tofloat(dot));
        }
      }
    }
}

#endif

OSSICLE_INLINE double exact_score(const Layer& layer, const Books& b, const double* r, std::int64_t n) {
  const float* c = layer.rows + n * b.D;
  if (!b.cosine) return exact_distance(r, c, b.D);
  return layer.norm[n] > 0.0 ? -(exact_dot(r, c, b.D) / layer.norm[n]) : 0.0;
}

// Bits of the 64 codes (or 16) of a group that score within the limit.
OSSICLE_INLINE std::uint64_t within(const float* scores, int group, float limit) {
  std::uint64_t bits = 0;
  for (int j = 0; j < group; j += L)
    bits |= static_cast<std::uint64_t>(lanes_of(load(scores + j) <= all(limit))) << j;
  return bits;
}

OSSICLE_INLINE float least_score(const float* scores, std::int64_t n) {  // n is a multiple of 16
  constexpr int kChains = 16 / L < 4 ? 4 : 16 / L;
  vf low[kChains];
  for (vf& v : low) v = load(scores);
  std::int64_t i = 0;
  for (; i + kChains * L <= n; i += kChains * L)
    for (int c = 0; c < kChains; ++c) low[c] = least(low[c], load(scores + i + c * L));
  for (; i < n; i += L) low[0] = least(low[0], load(scores + i));
  for (int c = 1; c < kChains; ++c) low[0] = least(low[0], low[c]);
  return lowest(low[0]);
}

// The lowest-numbered best code among those within the limit (all of them if the limit is not finite).
OSSICLE_INLINE std::int64_t decide(const Layer& layer, const Books& b, const double* r,
                                   const float* scores, float B) {
  const float limit = least_score(scores, b.Np) + 2.0f * B;
  const bool sure = __builtin_isfinite(limit);
  std::int64_t best = -1;
  double best_score = 0.0;
  bool scored = false;
  for (std::int64_t g = 0; g < b.Np; g += b.group) {
    std::uint64_t left = sure ? within(scores + g, b.group, limit) : ~std::uint64_t{0};
    if (!left) continue;
    const std::int64_t real = b.N - g < b.group ? b.N - g : b.group;  // the padding scores +inf
    if (real < 64) left &= (std::uint64_t{1} << real) - 1;
    for (; left; left &= left - 1) {
      const std::int64_t n = g + __builtin_ctzll(left);
      if (best < 0) {
        best = n;
        continue;
      }
      if (!scored) best_score = exact_score(layer, b, r, best), scored = true;
      const double score = exact_score(layer, b, r, n);
      if (score < best_score) best = n, best_score = score;
    }
  }
  return best < 0 ? 0 : best;
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
      float bounds[kTile];
      for (std::int64_t t = 0; t < tile; ++t) {
        const Facts f = centre(layer, b, s.residual + t * b.Dp, s.centred + t * b.Dp,
                               s.low + t * b.Dp, s.shift + t);
        s.facts[4 * t] = f.scale;
        bounds[t] = bound(layer, b, f);
      }
#if defined(__AMX_TILE__)
      if (layer.low && tile >= 4) all_scores_tiled(layer, b, s, tile);
      else all_scores(layer, b, s, tile);
#else
      all_scores(layer, b, s, tile);
#endif
      for (std::int64_t t = 0; t < tile; ++t) {
        double* r = s.residual + t * b.Dp;
        const std::int64_t n = decide(layer, b, r, s.scores + t * b.Np, bounds[t]);
        codes[k * stride + t0 + t] = static_cast<std::int32_t>(n);
        if (k + 1 < layers) subtract(r, layer.rows + n * b.D, b.D);
      }
    }
  }
}

}  // namespace ossicle::OSSICLE_NS
