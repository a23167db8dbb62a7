// Tile registers (AMX) of one thread: set up here, given back when the scope ends.
//
// Eight tiles of up to 16 rows of 64 bytes. The compiler's intrinsics do not say that a load reads memory,
// so `settle` stands between writing a tile's source and loading it.
#pragma once
#include "simd.hpp"

#if defined(__AMX_TILE__)
#include <immintrin.h>

namespace ossicle {
namespace {

OSSICLE_INLINE void settle() { __asm__ volatile("" ::: "memory"); }

struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};

  inline __attribute__((always_inline)) void set(int tile, std::int64_t r, std::int64_t b) {
    rows[tile] = static_cast<std::uint8_t>(r);
    bytes[tile] = static_cast<std::uint16_t>(b);
  }
  inline __attribute__((always_inline)) void load() const {
    settle();
    _tile_loadconfig(this);
  }
};

// Released at the end of every kernel: a thread with tiles in use costs 8 KiB at each task switch.
struct TileScope {
  inline __attribute__((always_inline)) ~TileScope() { _tile_release(); }
};

}  // namespace
}  // namespace ossicle
#endif
