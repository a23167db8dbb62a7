// A step allocates nothing once a thread has seen its largest size: every malloc of this program is counted.
#include <atomic>

#include "books.hpp"
#include "check.hpp"
#include "layers.hpp"

using namespace ossicle;

static std::atomic<long> allocations{0};

extern "C" {  // the linker's --wrap sends every call here
void* __real_malloc(std::size_t);
void* __real_aligned_alloc(std::size_t, std::size_t);
void* __wrap_malloc(std::size_t n) {
  ++allocations;
  return __real_malloc(n);
}
void* __wrap_aligned_alloc(std::size_t a, std::size_t n) {
  ++allocations;
  return __real_aligned_alloc(a, n);
}
}
// The library's own operator new would call a malloc that is not wrapped.
void* operator new(std::size_t n) { return __wrap_malloc(n); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

template <class Step>
void silent(Step step) {
  step();  // the largest size, once
  const long before = allocations;
  for (int i = 0; i < 3; ++i) step();
  CHECK(allocations == before);
}

}  // namespace

int main() {
  std::mt19937 rng(1);
  const long before = allocations;
  const auto noise = floats(rng, 1 << 16);
  CHECK(allocations > before);  // the counter counts
  std::vector<float> out(1 << 16);
  std::vector<std::int32_t> codes(4 * 40);
  std::vector<std::int64_t> position(2);
  std::vector<unsigned char> ring(1 << 16);
  const PackedBooks books(noise.data(), 4, 70, 20, false, true);
  const PackedMatrix f32(noise.data(), 33, 3, 20, nullptr, Weights::f32, 0.0f);
  const PackedMatrix x24(noise.data(), 33, 3, 20, nullptr, Weights::x24, 0.0f);
  const PackedMatrix bf16(noise.data(), 33, 3, 20, nullptr, Weights::bf16, 0.0f);
  const PackedMatrix i8(noise.data(), 33, 3, 20, nullptr, Weights::i8, 0.05f);
  const PackedMatrix gates(noise.data(), 3 * 20, 1, 20, nullptr, Weights::f32, 0.0f);
  std::vector<float> keys(2 * 2 * 16 * 8), values(2 * 2 * 16 * 8), h(2 * 20);
  each_isa([&] {
    silent([&] { books.encode(noise.data(), 40, 4, codes.data(), 40); });
    silent([&] { CHECK(books.decode(codes.data(), 4, 40, out.data())); });
    for (const PackedMatrix* w : {&f32, &x24, &bf16, &i8})
      silent([&] { conv_step(*w, {2, 7, 1, 1, 2, noise.data(), ring.data(), position.data(), out.data()}); });
    silent([&] { gru_step(gates, gates, {2, 7, noise.data(), h.data(), out.data()}); });
    silent([&] {
      attention_step({2, 3, 2, 2, 8, 16, 9, 0.3f, 100.0, false, noise.data(), noise.data(), noise.data(), keys.data(),
                      values.data(), position.data(), nullptr, out.data()});
    });
  });
}
