// Weights of 24 bits (see ../weights.hpp) as a register of floats, each 256 times what it counts.
#pragma once
#include "simd.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace ossicle {
namespace {

// Where the bytes of four whole numbers come from in the twelve that are kept: 0 below, so each is 256 times itself.
alignas(16) constexpr std::int8_t kUpper[16] = {-1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11};

#if defined(__AVX512VBMI__)
// The same for sixteen numbers at once; where 0 comes from is never looked at.
struct Spread {
  alignas(64) std::uint8_t from[64];
  constexpr Spread() : from() {
    for (int i = 0; i < 64; ++i) from[i] = static_cast<std::uint8_t>(i / 4 * 3 + (i % 4 ? i % 4 - 1 : 0));
  }
};
constexpr Spread kSpread;
#endif

// L weights from `w` on. Up to a register's length is read, past the last of them too.
OSSICLE_INLINE vf wide24(const char* w) {
#if defined(__AVX512VBMI__)
  const __m512i from = _mm512_load_si512(kSpread.from);
  return tofloat(reinterpret_cast<vi>(_mm512_maskz_permutexvar_epi8(0xeeeeeeeeeeeeeeee, from, _mm512_loadu_si512(w))));
#elif defined(__AVX512BW__)
  const __m512i quarters = _mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
  const __m512i upper = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kUpper)));
  const __m512i held = _mm512_permutexvar_epi32(quarters, _mm512_loadu_si512(w));
  return tofloat(reinterpret_cast<vi>(_mm512_shuffle_epi8(held, upper)));
#elif defined(__AVX2__)
  const __m256i upper = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kUpper)));
  const __m256i held = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(w + 12), reinterpret_cast<const __m128i*>(w));
  return tofloat(reinterpret_cast<vi>(_mm256_shuffle_epi8(held, upper)));
#elif defined(__ARM_NEON)
  const uint8x16_t upper = vreinterpretq_u8_s8(vld1q_s8(kUpper));  // what lies outside is 0
  return tofloat(reinterpret_cast<vi>(vqtbl1q_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(w)), upper)));
#else
  vi held;
  for (int i = 0; i < L; ++i) {
    std::int32_t v;
    __builtin_memcpy(&v, w + 3 * i, 4);
    held[i] = v;
  }
  return tofloat(held << 8);
#endif
}

}  // namespace
}  // namespace ossicle
