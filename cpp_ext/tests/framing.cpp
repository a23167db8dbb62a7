// Frames and overlap-add against whole signals, for contexts shorter and longer than a run.
#include "check.hpp"
#include "framing.hpp"
#include "level.hpp"

using namespace ossicle;

// What was brought to one loudness comes back as it was, `delay` samples late, for delays around a hop.
void loudness(std::mt19937& rng) {
  const std::size_t B = 3, T = 8, hops = 12;
  for (const std::size_t delay : {0, 1, 7, 8, 9, 30}) {
    std::vector<float> power(B), gain(B, 1.0f), past(B * delay), out(B * T), gains(B * T), back(B * T), line(B * delay);
    for (std::size_t h = 0; h < hops; ++h) {
      auto x = floats(rng, B * T);
      if (h < 2) std::fill_n(x.begin(), T, 0.0f);
      level(x.data(), B, T, {0.05f, 0.2f, 0.01f, 0.01f, 100.0f}, power.data(), gain.data(), out.data(), gains.data());
      std::vector<float> late(B * T);  // `out` from `delay` samples ago
      for (std::size_t b = 0; b < B; ++b) {
        std::vector<float> whole(line.begin() + b * delay, line.begin() + (b + 1) * delay);
        whole.insert(whole.end(), out.begin() + b * T, out.begin() + (b + 1) * T);
        std::copy_n(whole.begin(), T, late.begin() + b * T);
        std::copy(whole.begin() + T, whole.end(), line.begin() + b * delay);
      }
      unlevel(late.data(), gains.data(), B, T, delay, past.data(), back.data());
      for (std::size_t i = 0; i < B * T; ++i) CHECK(std::isfinite(back[i]));
      if (delay == 0)
        for (std::size_t i = 0; i < B * T; ++i) CHECK(std::fabs(back[i] - x[i]) <= 1e-5f * std::fabs(x[i]));
    }
  }
}

int main() {
  std::mt19937 rng(std::random_device{}());
  loudness(rng);
  for (const std::size_t hop : {1, 3, 8})
    for (const std::size_t context : {0, 1, 5, 30})
      for (const std::size_t hops : {1, 2, 7}) {
        const std::size_t C = 2, T = hops * hop, n = hop + context;
        auto history = floats(rng, C * context);
        const auto past = history, x = floats(rng, C * T);
        std::vector<float> out(hops * C * n);
        frame(history.data(), x.data(), C, hops, hop, context, out.data());
        const auto at = [&](std::size_t c, std::size_t i) { return i < context ? past[c * context + i] : x[c * T + i - context]; };
        for (std::size_t i = 0; i < hops; ++i)
          for (std::size_t c = 0; c < C; ++c)
            for (std::size_t j = 0; j < n; ++j) CHECK(out[(i * C + c) * n + j] == at(c, i * hop + j));
        for (std::size_t c = 0; c < C; ++c)
          for (std::size_t j = 0; j < context; ++j) CHECK(history[c * context + j] == at(c, T + j));
        std::vector<float> tail(C * context, 1.0f), sum(C * T);
        for (float& v : out) v = static_cast<float>(static_cast<int>(v * 4));
        overlap_add(tail.data(), out.data(), C, hops, hop, n, sum.data());
        for (std::size_t c = 0; c < C; ++c)
          for (std::size_t s = 0; s < T + context; ++s) {
            float want = s < context ? 1.0f : 0.0f;
            for (std::size_t i = 0; i < hops; ++i)
              if (s >= i * hop && s - i * hop < n) want += out[(i * C + c) * n + s - i * hop];
            CHECK((s < T ? sum[c * T + s] : tail[c * context + s - T]) == want);
          }
      }
}
