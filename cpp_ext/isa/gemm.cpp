// A packed matrix times a few frames: the inner product of convolution, GRU and projections.
//
// Weights lie as [Mp/16, Kp, 16], so that they are read once and in order; a frame's inputs are broadcast
// from where they lie (one pointer per tap). Every frame count adds in the same order, so a result does
// not depend on how many frames or streams came with it.
#include "kernels.hpp"
#include "tiles.hpp"
#include "wide24.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace ossicle::OSSICLE_NS {
namespace {

constexpr int kFrames = OSSICLE_LANES == 16 ? 8 : OSSICLE_LANES == 8 ? 4 : 2;
constexpr int kRegisters = OSSICLE_LANES == 16 ? 16 : 8;
constexpr int groups_for(int frames) {
  const int g = kRegisters / (frames * R);
  return g < 1 ? 1 : g > 8 ? 8 : g;
}

// A kind of weights: what it adds up (Acc), how many of K lie side by side (kPack), bytes of an input (kItem) and of a
// weight (kBytes); `take` loads the weights of a register from lane `lane` of a group on, `step` multiplies them.
struct F32 {
  typedef vf Acc;
  typedef vf W;
  static constexpr int kPack = 1;
  static constexpr int kItem = 4;
  static constexpr int kBytes = 4;
  typedef float X;
  OSSICLE_INLINE X input(const char* p) { return *reinterpret_cast<const float*>(p); }
  OSSICLE_INLINE W take(const char* w, int lane) { return load(reinterpret_cast<const float*>(w) + lane); }
  OSSICLE_INLINE void step(vf& acc, W w, X x) { acc += w * x; }
};

// Whole numbers of 24 bits in a unit of their row (see Matrix::scale); fp32 holds each of them exactly.
struct X24 : F32 {
  static constexpr int kBytes = 3;
  OSSICLE_INLINE W take(const char* group, int lane) { return wide24(group + 3 * lane); }
};

struct BF16 {
  typedef vf Acc;
  typedef vi W;
  static constexpr int kPack = 2;
  static constexpr int kItem = 2;
  static constexpr int kBytes = 2;
  typedef std::int32_t X;
  OSSICLE_INLINE X input(const char* p) {
    std::int32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
  }
  OSSICLE_INLINE W take(const char* w, int lane) { return loadi(reinterpret_cast<const std::int32_t*>(w) + lane); }
  OSSICLE_INLINE void step(vf& acc, W pair, X x) {
#if defined(__AVX512BF16__)
    acc = reinterpret_cast<vf>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(acc), reinterpret_cast<__m512bh>(pair),
                                                reinterpret_cast<__m512bh>(alli(x))));
#else
    const vi both = alli(x);
    acc += floats(pair << 16) * floats(both << 16);
    acc += floats(pair & ~0xffff) * floats(both & ~0xffff);
#endif
  }
};

struct I8 {
  typedef vi Acc;
  typedef vi W;
#if defined(__ARM_FEATURE_DOTPROD)
  static constexpr std::int32_t kShift = 0;  // signed by signed: see step
#else
  static constexpr std::int32_t kShift = 128;  // what the weights carry, to be unsigned
#endif
  static constexpr int kPack = 4;
  static constexpr int kItem = 1;
  static constexpr int kBytes = 1;
  typedef std::int32_t X;
  OSSICLE_INLINE X input(const char* p) { return BF16::input(p); }
  OSSICLE_INLINE W take(const char* w, int lane) { return BF16::take(w, lane); }
  OSSICLE_INLINE void step(vi& acc, W four, X x) {
#if defined(__AVX512VNNI__)
    acc = reinterpret_cast<vi>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(acc), reinterpret_cast<__m512i>(four),
                                                   reinterpret_cast<__m512i>(alli(x))));
#elif defined(__ARM_FEATURE_DOTPROD)
    // Both factors are signed here: the weights without the 128 that they carry.
    const int8x16_t own = reinterpret_cast<int8x16_t>(four ^ alli(static_cast<std::int32_t>(0x80808080u)));
    acc = reinterpret_cast<vi>(vdotq_s32(reinterpret_cast<int32x4_t>(acc), own, reinterpret_cast<int8x16_t>(alli(x))));
#else
    for (int i = 0; i < 4; ++i)
      acc += ((four >> (8 * i)) & 0xff) * alli(static_cast<std::int8_t>(static_cast<std::uint32_t>(x) >> (8 * i)));
#endif
  }
};

// Weights are passed over forwards, then backwards, and so on: what the last pass read last is still in the second
// cache when the next begins. 3 MB of fp32 through a cache of 2 MB took 96 us every time one way, 50 to and fro. Which
// way is a hint and never changes a result: outputs are summed apart. Threads that share weights may both go one way.
OSSICLE_INLINE bool goes_back(const Matrix& m) {
  const unsigned char way = __atomic_load_n(m.turn, __ATOMIC_RELAXED);
  __atomic_store_n(m.turn, static_cast<unsigned char>(way ^ 1), __ATOMIC_RELAXED);
  return way != 0;
}

struct Job {
  const Matrix& m;
  const void* const* rows;
  std::int64_t taps, width;
  float* out;
  std::int64_t out_stride;
};

template <class K>
OSSICLE_INLINE void finish(const Job& j, typename K::Acc acc, std::int64_t row, float* out, std::int32_t offset) {
  vf y;
  if constexpr (K::kPack == 4) {
    y = tofloat(acc - alli(offset)) * load(j.m.scale + row);
  } else {
    y = acc;
    if constexpr (K::kBytes == 3) y *= load(j.m.scale + row);  // a power of two: nothing is rounded
    (void)offset;
  }
  if (j.m.bias) y += load(j.m.bias + row);
  if (row + L <= j.m.M) return store(out + row, y);
  if (row < j.m.M) store_part(out + row, y, j.m.M - row);
}

template <class K, int F, int NG>
OSSICLE_INLINE void multiply(const Job& j, std::int64_t group, const std::int32_t* offsets) {
  typename K::Acc acc[F][NG * R] = {};
  const std::int64_t bytes = j.m.Kp * G * K::kBytes;  // of one group
  const char* w = static_cast<const char*>(j.m.data) + group * bytes;
  for (std::int64_t tap = 0; tap < j.taps; ++tap) {
    const char* x[F];
    for (int f = 0; f < F; ++f) x[f] = static_cast<const char*>(j.rows[f * j.taps + tap]);
    for (std::int64_t c = 0; c < j.width; c += K::kPack, w += G * K::kPack * K::kBytes) {
      for (int g = 0; g < NG; ++g) __builtin_prefetch(w + g * bytes + 2048);
      typename K::X v[F];
      for (int f = 0; f < F; ++f) v[f] = K::input(x[f] + c * K::kItem);
      for (int g = 0; g < NG; ++g)
        for (int r = 0; r < R; ++r) {
          const typename K::W taken = K::take(w + g * bytes, r * L);
          for (int f = 0; f < F; ++f) K::step(acc[f][g * R + r], taken, v[f]);
        }
    }
  }
  for (int f = 0; f < F; ++f)
    for (int g = 0; g < NG; ++g)
      for (int r = 0; r < R; ++r)
        finish<K>(j, acc[f][g * R + r], (group + g) * G + r * L, j.out + f * j.out_stride, offsets[f]);
}

template <class K, int F>
void panel(const Job& j) {
  constexpr int NG = groups_for(F);
  std::int32_t offsets[F] = {};
  if constexpr (K::kPack == 4 && I8::kShift != 0)
    for (int f = 0; f < F; ++f) {
      std::int32_t s = 0;
      for (std::int64_t t = 0; t < j.taps; ++t) {
        const std::int8_t* x = static_cast<const std::int8_t*>(j.rows[f * j.taps + t]);
        for (std::int64_t c = 0; c < j.width; ++c) s += x[c];
      }
      offsets[f] = I8::kShift * s;
    }
  const std::int64_t groups = j.m.Mp / G, whole = groups / NG;
  const bool back = goes_back(j.m);
  for (std::int64_t g = groups; back && g > whole * NG;) multiply<K, F, 1>(j, --g, offsets);
  for (std::int64_t i = 0; i < whole; ++i) multiply<K, F, NG>(j, (back ? whole - 1 - i : i) * NG, offsets);
  for (std::int64_t g = whole * NG; !back && g < groups; ++g) multiply<K, F, 1>(j, g, offsets);
}

template <class K, int F>
void dispatch(const Job& j, std::int64_t frames) {
  if constexpr (F > 1)
    if (frames < F) return dispatch<K, F - 1>(j, frames);
  panel<K, F>(j);
}

#if defined(__AMX_TILE__)

// Up to 16 frames against four groups at once: frames are the rows of the left tile, 64 bytes of their inputs
// its columns; a kibibyte of packed weights is the right tile as it lies. One path for every frame count,
// since the tiles add in an order of their own.
#define OSSICLE_PRODUCT(sum, right)                      \
  do {                                                   \
    if constexpr (kInteger) _tile_dpbsud(sum, 4, right); \
    else _tile_dpbf16ps(sum, 4, right);                  \
  } while (0)

template <bool kInteger>
struct Tiles {
  static constexpr int kGroups = 4;
  static constexpr int kItem = kInteger ? 1 : 2;

  // Rows a whole number of pages apart would share one set of the cache.
  OSSICLE_INLINE std::int64_t apart(const Matrix& m) { return m.Kp * kItem + 64; }

  OSSICLE_INLINE void run(const char* x, std::int64_t depth, const char* w, std::int64_t bytes, int groups,
                          void* sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::int64_t c = 0; c < depth; c += 64, w += 1024) {
      _tile_loadd(4, x + c, depth + 64);
      _tile_loadd(5, w, 64);
      OSSICLE_PRODUCT(0, 5);
      if (groups > 1) {
        _tile_loadd(6, w + bytes, 64);
        OSSICLE_PRODUCT(1, 6);
      }
      if (groups > 2) {
        _tile_loadd(7, w + 2 * bytes, 64);
        OSSICLE_PRODUCT(2, 7);
      }
      if (groups > 3) {
        _tile_loadd(5, w + 3 * bytes, 64);
        OSSICLE_PRODUCT(3, 5);
      }
    }
    char* to = static_cast<char*>(sums);
    _tile_stored(0, to, 256);
    if (groups > 1) _tile_stored(1, to + 64, 256);
    if (groups > 2) _tile_stored(2, to + 128, 256);
    if (groups > 3) _tile_stored(3, to + 192, 256);
  }

  static void panel(const Matrix& m, const char* x, const std::int32_t* offsets, std::int64_t frames, std::int64_t g,
                    float* out, std::int64_t out_stride) {
    alignas(64) std::int32_t sums[16][64];
    const std::int64_t depth = m.Kp * kItem, bytes = m.Kp * G * kItem;
    const int groups = static_cast<int>(m.Mp / G - g < kGroups ? m.Mp / G - g : kGroups);
    const char* w = static_cast<const char*>(m.data) + g * bytes;
    if (groups == kGroups) run(x, depth, w, bytes, kGroups, sums);
    else run(x, depth, w, bytes, groups, sums);
    for (std::int64_t f = 0; f < frames; ++f)
      for (int i = 0; i < groups; ++i) {
        const std::int64_t row = (g + i) * G;
        const vi raw = loadi(sums[f] + i * G);
        vf y = kInteger ? tofloat(raw - alli(offsets[f])) * load(m.scale + row) : floats(raw);
        if (m.bias) y += load(m.bias + row);
        if (row + L <= m.M) store(out + f * out_stride + row, y);
        else if (row < m.M) store_part(out + f * out_stride + row, y, m.M - row);
      }
  }

  // The inputs of the frames one after another, each padded to whole tiles; returns 128 times the sum of bytes.
  static void gather(const Matrix& m, const void* const* rows, std::int64_t frames, std::int64_t taps,
                     std::int64_t width, char* x, std::int32_t* offsets) {
    const std::int64_t depth = m.Kp * kItem, used = taps * width * kItem;
    for (std::int64_t f = 0; f < frames; ++f) {
      char* to = x + f * apart(m);
      for (std::int64_t t = 0; t < taps; ++t)
        __builtin_memcpy(to + t * width * kItem, rows[f * taps + t], width * kItem);
      __builtin_memset(to + used, 0, depth - used);
      if constexpr (kInteger) {
        __m512i total = _mm512_setzero_si512();
        for (std::int64_t c = 0; c < depth; c += 64)
          total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(1), _mm512_loadu_si512(to + c));
        offsets[f] = 128 * _mm512_reduce_add_epi32(total);
      }
    }
  }

  static void gemm(const Matrix& m, const void* const* rows, std::int64_t F, std::int64_t taps, std::int64_t width,
                   float* out, std::int64_t out_stride) {
    constexpr std::int64_t kHeld = 64;  // frames whose inputs are gathered at once
    std::int32_t offsets[kHeld];
    const std::int64_t depth = apart(m);
    char* x = static_cast<char*>(gemm_room(static_cast<std::size_t>((F < kHeld ? F : kHeld) * depth)));
    const TileScope scope;
    std::int64_t shaped = 0;
    for (std::int64_t f0 = 0; f0 < F; f0 += kHeld) {
      const std::int64_t held = F - f0 < kHeld ? F - f0 : kHeld;
      gather(m, rows + f0 * taps, held, taps, width, x, offsets);
      const std::int64_t panels = (m.Mp / G + kGroups - 1) / kGroups;
      const bool back = goes_back(m);
      for (std::int64_t i = 0; i < panels; ++i)
        for (std::int64_t f = 0; f < held; f += 16) {
          const std::int64_t g = (back ? panels - 1 - i : i) * kGroups;
          const std::int64_t frames = held - f < 16 ? held - f : 16;
          if (frames != shaped) {
            TileShapes shapes;
            for (int c = 0; c < 5; ++c) shapes.set(c, frames, 64);
            for (int right = 5; right < 8; ++right) shapes.set(right, 16, 64);
            shapes.load();
            shaped = frames;
          }
          settle();
          panel(m, x + f * depth, offsets + f, frames, g, out + (f0 + f) * out_stride, out_stride);
        }
    }
  }
};

#endif

}  // namespace

void gemm(const Matrix& m, const void* const* rows, std::int64_t F, std::int64_t taps, std::int64_t width,
          float* out, std::int64_t out_stride) {
#if defined(__AMX_TILE__)
  if (m.kind == Weights::bf16) return Tiles<false>::gemm(m, rows, F, taps, width, out, out_stride);
  if (m.kind == Weights::i8 && F >= 4) return Tiles<true>::gemm(m, rows, F, taps, width, out, out_stride);
#endif
  for (std::int64_t f = 0; f < F; f += kFrames) {
    const Job job{m, rows + f * taps, taps, width, out + f * out_stride, out_stride};
    const std::int64_t frames = F - f < kFrames ? F - f : kFrames;
    if (m.kind == Weights::f32) dispatch<F32, kFrames>(job, frames);
    else if (m.kind == Weights::x24) dispatch<X24, kFrames>(job, frames);
    else if (m.kind == Weights::bf16) dispatch<BF16, kFrames>(job, frames);
    else dispatch<I8, kFrames>(job, frames);
  }
}

}  // namespace ossicle::OSSICLE_NS
