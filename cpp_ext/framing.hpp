// Frames of a stream, each with the samples before it, and their overlap-add.
#pragma once
#include <cstddef>
#include <cstring>

namespace ossicle {

// history: [C, context] in place; x: [C, hops * hop]; out: [hops, C, context + hop].
inline void frame(float* history, const float* x, std::size_t C, std::size_t hops, std::size_t hop,
                  std::size_t context, float* out) {
  const std::size_t length = context + hop, T = hops * hop;
  for (std::size_t c = 0; c < C; ++c)
    for (std::size_t i = 0; i < hops; ++i) {
      float* to = out + (i * C + c) * length;
      const std::size_t start = i * hop;  // of the new samples; the context ends there
      const std::size_t old = context > start ? context - start : 0;
      if (old) std::memcpy(to, history + c * context + start, old * sizeof(float));
      std::memcpy(to + old, x + c * T + (start + old - context), (length - old) * sizeof(float));
    }
  for (std::size_t c = 0; c < C && context; ++c) {
    float* h = history + c * context;
    const std::size_t keep = context > T ? context - T : 0;
    if (keep) std::memmove(h, h + T, keep * sizeof(float));
    std::memcpy(h + keep, x + c * T + (T - (context - keep)), (context - keep) * sizeof(float));
  }
}

// tail: [C, length - hop] in place; frames: [hops, C, length]; out: [C, hops * hop].
inline void overlap_add(float* tail, const float* frames, std::size_t C, std::size_t hops, std::size_t hop,
                        std::size_t length, float* out) {
  const std::size_t rest = length - hop, T = hops * hop;
  for (std::size_t c = 0; c < C; ++c) {
    float* t = tail + c * rest;
    for (std::size_t i = 0; i < hops; ++i) {
      const float* f = frames + (i * C + c) * length;
      for (std::size_t j = 0; j < hop; ++j) out[c * T + i * hop + j] = f[j] + (j < rest ? t[j] : 0.0f);
      for (std::size_t j = 0; j < rest; ++j) t[j] = f[hop + j] + (j + hop < rest ? t[j + hop] : 0.0f);
    }
  }
}

}  // namespace ossicle
