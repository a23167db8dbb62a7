// Plans at ragged sizes under every instruction set: right to rounding, equal in every slot, and nothing outside.
#include <cmath>
#include <functional>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "native.hpp"

using namespace ossicle;
using namespace ossicle::native;

namespace {

View view(int buffer, std::int64_t offset, std::initializer_list<std::int64_t> shape) {
  View v;
  v.buffer = buffer, v.offset = offset, v.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), v.shape.begin());
  std::int64_t step = 1;
  for (int i = v.rank - 1; i >= 0; --i) v.stride[i] = step, step *= v.shape[i];
  return v;
}

View moved(View v, std::int64_t offset, std::initializer_list<std::int64_t> stride) {
  v.offset = offset;
  std::copy(stride.begin(), stride.end(), v.stride.begin());
  return v;
}

bool refused(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// A causal layer: history [taps - 1, C] and new frames [T, C] joined, two parts a row, leak, residual, new history.
void layer(std::int64_t T, std::int64_t C, std::int64_t N, bool half, std::mt19937& rng) {
  const std::int64_t H = 1, K = 2 * C;
  const auto weights = floats(rng, K * N), bias = floats(rng, N);
  Plan plan;
  const int x = plan.add_buffer(Home::input, T * C, 0), out = plan.add_buffer(Home::output, T * N, 0);
  const int past = plan.add_buffer(Home::state_in, H * C, 0), next = plan.add_buffer(Home::state_out, H * C, 0);
  const int both = plan.add_buffer(Home::scratch, (H + T) * C, 0);
  const int more = plan.add_buffer(Home::scratch, T * N, (H + T) * C);
  const std::size_t w = plan.add_weights(weights.data(), K, N, bias.data(), {C, C}, half);
  plan.add(MapStep{Map::copy, 0, 0, view(both, 0, {H, C}), view(past, 0, {H, C}), {}});
  plan.add(MapStep{Map::copy, 0, 0, view(both, H * C, {T, C}), view(x, 0, {T, C}), {}});
  plan.add(GemmStep{{view(both, 0, {T, C}), view(both, C, {T, C})}, view(more, 0, {T, N}), {}, Act::none, 0, w});
  plan.add(GemmStep{{view(both, 0, {T, C}), view(both, C, {T, C})}, view(out, 0, {T, N}), view(more, 0, {T, N}),
                    Act::leaky, 0.3f, w});
  plan.add(MapStep{Map::copy, 0, 0, view(next, 0, {H, C}), view(both, T * C, {H, C}), {}});
  plan.seal();
  CHECK(refused([&] { plan.add_buffer(Home::scratch, 1, 0); }));

  const auto fed = floats(rng, 2 * T * C);  // two hops
  std::vector<float> alone;
  for (const std::int64_t B : {1, 5}) {
    std::vector<float> in(B * T * C), made(B * T * N, NAN), even(B * H * C), odd(B * H * C, NAN);
    Run run(plan, B, {{in.data()}, {made.data()}, {{{even.data()}, {odd.data()}}}});
    for (int hop = 0; hop < 2; ++hop) {
      for (std::int64_t b = 0; b < B; ++b) std::copy_n(fed.data() + hop * T * C, T * C, in.data() + b * T * C);
      run.poison();
      run.step(hop & 1);
    }
    if (B == 1) alone = made;
    for (std::int64_t b = 0; b < B; ++b)
      CHECK(std::equal(alone.begin(), alone.end(), made.begin() + b * T * N));  // in every slot, to the bit
  }
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t n = 0; n < N; ++n) {
      double sum = bias[n], most = std::fabs(bias[n]), heard = 0.0, peak = 0.0;
      for (std::int64_t k = 0; k < K; ++k) {
        const double x = fed[(T + t - 1) * C + k], p = double(weights[k * N + n]) * x;
        sum += p, most += std::fabs(p), heard += std::fabs(x), peak = std::fmax(peak, std::fabs(weights[k * N + n]));
      }
      const double want = sum + (sum < 0 ? 0.3 * sum : sum), lost = 4 * K * N > 1 << 20 ? peak * heard / (1 << 23) : 0.0;
      CHECK(std::fabs(alone[t * N + n] - want) <= 2 * (most * (half ? 4e-3 : 4e-7) + lost));
    }
}

void rows(std::int64_t n, std::mt19937& rng) {
  Plan plan;
  const auto scale = floats(rng, n), bias = floats(rng, n), x = floats(rng, 3 * n);
  const int in = plan.add_buffer(Home::input, 3 * n, 0), out = plan.add_buffer(Home::output, 3 * n, 0);
  const int s = plan.add_constant(scale.data(), n), b = plan.add_constant(bias.data(), n);
  const int sums = plan.add_buffer(Home::output, 3, 1);
  plan.add(RowStep{Row::norm, 1e-5f, view(out, 0, {3, n}), view(in, 0, {3, n}), view(s, 0, {n}), view(b, 0, {n})});
  plan.add(RowStep{Row::softmax, 0, view(out, 0, {3, n}), view(out, 0, {3, n}), {}, {}});
  plan.add(RowStep{Row::sum, 0, view(sums, 0, {3}), view(out, 0, {3, n}), {}, {}});
  plan.seal();
  std::vector<float> given(2 * 3 * n), made(2 * 3 * n, NAN), total(2 * 3, NAN);
  std::copy(x.begin(), x.end(), given.begin());
  std::copy(x.begin(), x.end(), given.begin() + 3 * n);
  Run run(plan, 2, {{given.data()}, {made.data(), total.data()}, {}});
  run.step(0);
  for (const float t : total) CHECK(std::fabs(t - 1.0f) < 1e-5f);
}

// Every element-wise operator on odd strides; bytes in and out.
void maps(std::mt19937& rng) {
  for (int op = 0; op < static_cast<int>(Map::count); ++op) {
    Plan plan;
    const auto x = floats(rng, 3 * 19);
    const int in = plan.add_buffer(Home::input, 3 * 19, 0), out = plan.add_buffer(Home::output, 3 * 19, 0);
    const View a = moved(view(in, 0, {19, 3}), 0, {1, 19}), b = op < kFirstOfTwo ? View{} : moved(a, 2, {0, 19});
    plan.add(MapStep{static_cast<Map>(op), 0.5f, 1.0f, view(out, 0, {19, 3}), a, b});
    plan.seal();
    std::vector<float> given(x), made(3 * 19, NAN);
    Run(plan, 1, {{given.data()}, {made.data()}, {}}).step(0);
  }
  Plan plan;
  const int past = plan.add_buffer(Home::state_in, 21, 0, Item::u8), next = plan.add_buffer(Home::state_out, 21, 0, Item::u8);
  const int held = plan.add_buffer(Home::scratch, 21, 0);
  plan.add(ConvertStep{view(held, 0, {21}), view(past, 0, {21})});
  plan.add(ConvertStep{view(next, 0, {21}), view(held, 0, {21})});
  CHECK(refused([&] { plan.add(ConvertStep{view(next, 0, {21}), view(past, 0, {21})}); }));
  CHECK(refused([&] { plan.add(MapStep{Map::copy, 0, 0, view(held, 0, {21}), view(past, 0, {21}), {}}); }));
  plan.seal();
  std::vector<std::uint8_t> even(42), odd(42);
  for (std::size_t i = 0; i < even.size(); ++i) even[i] = static_cast<std::uint8_t>(i * 6);
  Run(plan, 2, {{}, {}, {{{reinterpret_cast<float*>(even.data())}, {reinterpret_cast<float*>(odd.data())}}}}).step(0);
  CHECK(even == odd);
}

void refusals() {
  Plan plan;
  const int a = plan.add_buffer(Home::scratch, 8, 0), in = plan.add_buffer(Home::input, 8, 0);
  const auto copy = [&](View out, View from) { return refused([&] { plan.add(MapStep{Map::copy, 0, 0, out, from, {}}); }); };
  CHECK(!copy(view(a, 0, {8}), view(in, 0, {8})));
  CHECK(copy(view(in, 0, {8}), view(a, 0, {8})));
  CHECK(copy(view(a, 1, {8}), view(in, 0, {8})));
  CHECK(copy(view(a, 0, {8}), view(in, 0, {4})));
  CHECK(copy(view(a, 0, {9}), view(in, 0, {9})));
  CHECK(copy(view(7, 0, {8}), view(in, 0, {8})));
  CHECK(copy(moved(view(a, 0, {2}), 0, {0}), view(in, 0, {2})));
  CHECK(copy(moved(view(a, 0, {2, 2}), 0, {1ll << 30, 1ll << 30}), view(in, 0, {2, 2})));
  CHECK(refused([&] { plan.add_buffer(Home::scratch, 0, 0); }));
  CHECK(refused([&] { plan.add_buffer(Home::scratch, 1ll << 40, 0); }));
  CHECK(refused([&] { plan.add_buffer(Home::scratch, 8, -1); }));
  const float w[6] = {};
  CHECK(refused([&] { plan.add_weights(w, 3, 2, nullptr, {1, 1}, false); }));
  CHECK(refused([&] { plan.add_weights(w, 3, 2, nullptr, {4, -1}, false); }));
  plan.seal();
  CHECK(refused([&] { Run(plan, 1, {}); }));
}

}  // namespace

int main() {
  refusals();
  each_isa([] {
    std::mt19937 rng(7);
    for (const std::int64_t T : {1, 4, 13})
      for (const auto& [C, N] : {std::pair{3, 1}, {7, 16}, {16, 70}, {33, 64}, {20, 130}}) {
        layer(T, C, N, false, rng);
        layer(T, C, N, true, rng);
      }
    for (const std::int64_t T : {1, 2}) layer(T, 301, 451, false, rng);  // more weights than lie near: 24 bits for few rows
    for (const std::int64_t n : {1, 15, 16, 40}) rows(n, rng);
    maps(rng);
  });
  std::thread other([] {  // two runs of one plan at once share nothing that is written
    std::mt19937 rng(8);
    layer(4, 16, 70, false, rng);
  });
  std::mt19937 rng(8);
  layer(4, 16, 70, false, rng);
  other.join();
  return 0;
}
