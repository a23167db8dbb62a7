// Frames and overlap-add against whole signals, for contexts shorter and longer than a run.
#include "check.hpp"
#include "framing.hpp"

using namespace ossicle;

int main() {
  std::mt19937 rng(std::random_device{}());
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
