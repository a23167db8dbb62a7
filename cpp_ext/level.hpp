// A stream brought to one loudness, and back: a peak-holding mean square, and a gain straight across each hop.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace ossicle {

struct LevelRates {
  float target, attack, release, least, limit;
};

// x: [B, T]; power, gain: [B] in place; out, gains: [B, T].
inline void level(const float* x, std::size_t B, std::size_t T, const LevelRates& r, float* power, float* gain,
                  float* out, float* gains) {
  const float length = static_cast<float>(T);
  for (std::size_t b = 0; b < B; ++b, x += T, out += T, gains += T) {
    float sums[16] = {};
    for (std::size_t t = 0; t < T; ++t) sums[t % 16] += x[t] * x[t];
    for (std::size_t width = 8; width; width /= 2)
      for (std::size_t i = 0; i < width; ++i) sums[i] += sums[i + width];
    const float fresh = sums[0] / length, before = power[b], held = gain[b];
    const float rate = before == 0.0f ? 1.0f : fresh > before ? r.attack : r.release;
    const float now = power[b] = before + rate * (fresh - before);
    const float asked = now > 0.0f ? r.target / std::max(std::sqrt(now), 1e-9f) : held;
    const float after = gain[b] = std::min(std::max(asked, r.least), r.limit);
    const float start = before == 0.0f ? after : held, rise = after - start;
    for (std::size_t t = 0; t < T; ++t) {
      gains[t] = start + rise * (static_cast<float>(t + 1) / length);
      out[t] = x[t] * gains[t];
    }
  }
}

// x, gains: [B, T]; past: [B, delay] in place, 0 where nothing was before; out: [B, T] over the gains of `delay` ago.
inline void unlevel(const float* x, const float* gains, std::size_t B, std::size_t T, std::size_t delay, float* past,
                    float* out) {
  for (std::size_t b = 0; b < B; ++b, x += T, gains += T, past += delay, out += T) {
    const float first = gains[0];
    const std::size_t late = std::min(T, delay);
    for (std::size_t t = 0; t < late; ++t) out[t] = x[t] / (past[t] == 0.0f ? first : past[t]);
    for (std::size_t t = late; t < T; ++t) out[t] = x[t] / gains[t - late];
    const std::size_t kept = delay - late;
    for (std::size_t t = 0; t < kept; ++t) past[t] = past[t + late] == 0.0f ? first : past[t + late];
    if (late) std::memcpy(past + kept, gains + (T - late), late * sizeof(float));
  }
}

}  // namespace ossicle
