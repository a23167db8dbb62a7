// Registers of floats, written once and compiled for each instruction set.
//
// Everything here has internal linkage: an inline function shared between objects that were compiled
// for different processors could be merged by the linker into the one that crashes.
#pragma once
#include <cstddef>
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef OSSICLE_ISA
#error "compile with -DOSSICLE_ISA=<name>"
#endif
#define OSSICLE_CAT2(a, b) a##b
#define OSSICLE_CAT(a, b) OSSICLE_CAT2(a, b)
#define OSSICLE_NS OSSICLE_CAT(isa_, OSSICLE_ISA)

#if defined(__AVX512F__)
#define OSSICLE_LANES 16
#elif defined(__AVX2__)
#define OSSICLE_LANES 8
#else
#define OSSICLE_LANES 4
#endif

#define OSSICLE_INLINE static inline __attribute__((always_inline))

namespace ossicle {
namespace {

constexpr int L = OSSICLE_LANES;  // floats in a register
constexpr int G = 16;             // lanes of a packed group, the same on every machine
constexpr int R = G / L;          // registers of a group

typedef float vf __attribute__((vector_size(4 * L)));
typedef std::int32_t vi __attribute__((vector_size(4 * L)));
typedef float vfu __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef std::int32_t viu __attribute__((vector_size(4 * L), aligned(4), may_alias));

OSSICLE_INLINE vf load(const float* p) { return *reinterpret_cast<const vfu*>(p); }
OSSICLE_INLINE void store(float* p, vf v) { *reinterpret_cast<vfu*>(p) = v; }
OSSICLE_INLINE vi loadi(const std::int32_t* p) { return *reinterpret_cast<const viu*>(p); }
OSSICLE_INLINE void storei(std::int32_t* p, vi v) { *reinterpret_cast<viu*>(p) = v; }
OSSICLE_INLINE vf all(float x) { return x - vf{}; }
OSSICLE_INLINE vi alli(std::int32_t x) { return x + vi{}; }
OSSICLE_INLINE vf tofloat(vi v) { return __builtin_convertvector(v, vf); }
OSSICLE_INLINE vi toint(vf v) { return __builtin_convertvector(v, vi); }
OSSICLE_INLINE vi bits(vf v) { return reinterpret_cast<vi>(v); }
OSSICLE_INLINE vf floats(vi v) { return reinterpret_cast<vf>(v); }
OSSICLE_INLINE vf pick(vi mask, vf a, vf b) { return mask ? a : b; }
OSSICLE_INLINE vf least(vf a, vf b) { return a < b ? a : b; }
OSSICLE_INLINE vf most(vf a, vf b) { return a > b ? a : b; }
OSSICLE_INLINE vf absolute(vf v) { return floats(bits(v) & 0x7fffffff); }

// The first n of L floats; the rest are 0. Reads nothing past p[n].
OSSICLE_INLINE vf load_part(const float* p, std::ptrdiff_t n) {
  vf v{};
  for (std::ptrdiff_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
OSSICLE_INLINE void store_part(float* p, vf v, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) p[i] = v[i];
}

// Bit i is set where lane i of a comparison is true.
OSSICLE_INLINE unsigned lanes_of(vi v) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(reinterpret_cast<__m256>(v)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(reinterpret_cast<__m128>(v)));
#else
  unsigned a = 0;
  for (int i = 0; i < L; ++i) a |= static_cast<unsigned>(v[i] & 1) << i;
  return a;
#endif
}

#if defined(__AVX512F__)
OSSICLE_INLINE float sum(vf v) { return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v)); }
OSSICLE_INLINE float highest(vf v) { return _mm512_reduce_max_ps(reinterpret_cast<__m512>(v)); }
#else
OSSICLE_INLINE float sum(vf v) {
  alignas(64) float a[L];
  store(a, v);
  for (int w = L / 2; w; w /= 2)
    for (int i = 0; i < w; ++i) a[i] += a[i + w];
  return a[0];
}
OSSICLE_INLINE float highest(vf v) {
  alignas(64) float a[L];
  store(a, v);
  for (int w = L / 2; w; w /= 2)
    for (int i = 0; i < w; ++i) a[i] = a[i] > a[i + w] ? a[i] : a[i + w];
  return a[0];
}
#endif
OSSICLE_INLINE float lowest(vf v) { return -highest(-v); }

// Round to nearest even for |v| < 2^22.
OSSICLE_INLINE vf nearest(vf v) {
  const float magic = 12582912.0f;  // 1.5 * 2^23
  return (v + magic) - magic;
}

}  // namespace
}  // namespace ossicle
