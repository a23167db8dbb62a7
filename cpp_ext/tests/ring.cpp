// Two threads through a small ring: nothing lost, nothing out of order (run under the thread sanitizer).
#include <thread>

#include "check.hpp"
#include "ring.hpp"

using namespace ossicle;

int main() {
  SampleRing ring(60, 2);
  CHECK(ring.capacity() == 64);
  constexpr std::size_t total = 200000;
  std::thread producer([&] {
    float run[2 * 23];
    std::size_t at = 0;
    while (at < total) {
      std::size_t n = at % 23 + 1;
      if (n > total - at) n = total - at;
      if (n > ring.capacity() - ring.size()) {  // only the producer adds, so this room stays
        std::this_thread::yield();
        continue;
      }
      for (std::size_t i = 0; i < n; ++i) run[2 * i] = static_cast<float>(at + i), run[2 * i + 1] = -run[2 * i];
      CHECK(ring.push(run, n) == n);
      at += n;
    }
  });
  float out[2 * 17];
  std::size_t seen = 0;
  while (seen < total) {
    const std::size_t n = ring.pop(out, seen % 17 + 1);
    if (!n) std::this_thread::yield();
    for (std::size_t i = 0; i < n; ++i, ++seen)
      CHECK(out[2 * i] == static_cast<float>(seen) && out[2 * i + 1] == -out[2 * i]);
  }
  producer.join();
  CHECK(ring.dropped() == 0 && ring.size() == 0);
  std::vector<float> many(2 * 100);
  CHECK(ring.push(many.data(), 100) == 64 && ring.dropped() == 36);
}
