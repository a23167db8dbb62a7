// Convolution, GRU, attention and pointwise steps at ragged sizes; every byte they touch is theirs.
#include <algorithm>
#include <cmath>

#include "check.hpp"
#include "layers.hpp"

using namespace ossicle;

namespace {

void convolution(Weights kind, std::int64_t M, std::int64_t C, std::int64_t taps, std::mt19937& rng) {
  const std::int64_t B = 2, T = 37, H = taps - 1;  // more frames than a tile or a panel holds
  const auto rows = floats(rng, M * taps * C), bias = floats(rng, M), x = floats(rng, B * T * C);
  const PackedMatrix w(rows.data(), M, taps, C, bias.data(), kind, 0.05f);
  std::vector<unsigned char> ring(B * H * w.padded() * w.item());
  std::vector<std::int64_t> position(B);
  std::vector<float> out(B * T * M, NAN), again(B * T * M, NAN);
  conv_step(w, {B, T, 1, 1, H, x.data(), ring.data(), position.data(), out.data()});
  CHECK(position[0] == T && position[1] == T);
  std::fill(ring.begin(), ring.end(), 0);
  position.assign(B, 1ll << 40);
  std::vector<float> frame(B * C), one(B * M);
  for (std::int64_t t = 0; t < T; ++t) {  // frame by frame, both streams together
    for (std::int64_t b = 0; b < B; ++b) std::copy_n(x.data() + (b * T + t) * C, C, frame.data() + b * C);
    conv_step(w, {B, 1, 1, 1, H, frame.data(), ring.data(), position.data(), one.data()});
    for (std::int64_t b = 0; b < B; ++b) std::copy_n(one.data() + b * M, M, again.data() + (b * T + t) * M);
  }
  CHECK(out == again);
  // Against fp64, within what rounding weights and inputs can make of each output at worst.
  // bf16 keeps 8 bits of weights and inputs: 2^-8 each; x24 keeps weights to 2^-23 of the row's largest.
  const double step = 0.05;
  const double share = wide_inputs(kind) ? 1e-6 : 2.02 / 256, lost = kind == Weights::x24 ? 1.0 / (1 << 23) : 0.0;
  for (std::int64_t b = 0; b < B; ++b)
    for (std::int64_t t = 0; t < T; ++t)
      for (std::int64_t m = 0; m < M; ++m) {
        double want = bias[m], size = std::fabs(bias[m]) * 1e-6, peak = 0.0;
        for (std::int64_t i = 0; i < taps * C; ++i) peak = std::fmax(peak, std::fabs(rows[m * taps * C + i]));
        for (std::int64_t i = 0; i < taps; ++i)
          for (std::int64_t c = 0; c < C; ++c) {
            const std::int64_t at = t - (taps - 1 - i);
            if (at < 0) continue;
            const double v = rows[(m * taps + i) * C + c], u = x[(b * T + at) * C + c], scale = peak / 127;
            want += v * u;
            size += kind == Weights::i8 ? 1.001 * (std::fabs(v) * step / 2 + std::fabs(u) * scale / 2 + step * scale / 4)
                                        : std::fabs(v * u) * share + std::fabs(u) * peak * lost;
          }
        CHECK(std::fabs(want - out[(b * T + t) * M + m]) <= size + 1e-6);
      }
}

void attention(std::int64_t W, std::mt19937& rng) {
  const std::int64_t B = 2, H = 2, window = 9, cap = 16, T = 5;
  std::vector<float> keys(B * H * cap * W), values(B * H * cap * W), out(B * T * H * W, NAN);
  std::vector<std::int64_t> position(B, 1ll << 33);
  for (int step = 0; step < 5; ++step) {
    const auto q = floats(rng, B * T * H * W), k = floats(rng, B * T * H * W), v = floats(rng, B * T * H * W);
    attention_step({B, T, H, H, W, cap, window, 0.3f, W % 2 ? 0.0 : 100.0, false, q.data(), k.data(), v.data(),
                    keys.data(), values.data(), position.data(), nullptr, out.data()});
    for (const float y : out) CHECK(std::isfinite(y));
  }
  const std::int64_t lengths[] = {0, 13};
  const auto q = floats(rng, B * T * H * W);
  cross_step({B, T, H, H, W, cap, 0.3f, q.data(), keys.data(), values.data(), lengths, out.data()});
  for (std::int64_t i = 0; i < T * H * W; ++i) CHECK(out[i] == 0.0f);
}

void pointwise(std::int64_t n, std::mt19937& rng) {
  const auto x = floats(rng, n), y = floats(rng, n), a = floats(rng, n);
  std::vector<float> out(n, NAN);
  const float* terms[] = {x.data(), y.data()};
  const float weights[] = {2.0f, -3.0f};
  table().combine(terms, weights, 2, n, out.data());
  for (std::int64_t i = 0; i < n; ++i) CHECK(std::fabs(out[i] - (2.0f * x[i] - 3.0f * y[i])) < 1e-5f);
  table().snake(x.data(), a.data(), y.data(), 1, n, out.data());
  for (std::int64_t i = 0; i < n; ++i) {
    const double want = x[i] + y[i] * std::pow(std::sin(double(a[i]) * x[i]), 2);
    CHECK(std::fabs(out[i] - want) < 1e-5);
  }
}

void recurrent(std::int64_t H, std::mt19937& rng) {
  const std::int64_t I = 5, B = 3, T = 4;
  const auto wi = floats(rng, 3 * H * I), wh = floats(rng, 3 * H * H), b = floats(rng, 3 * H), x = floats(rng, B * T * I);
  const PackedMatrix input(wi.data(), 3 * H, 1, I, b.data(), Weights::f32, 0), hidden(wh.data(), 3 * H, 1, H, b.data(), Weights::f32, 0);
  std::vector<float> h(B * H), out(B * T * H, NAN);
  gru_step(input, hidden, {B, T, x.data(), h.data(), out.data()});
  for (const float y : out) CHECK(std::fabs(y) <= 1.0f);
  for (std::int64_t i = 0; i < B; ++i) CHECK(!std::memcmp(h.data() + i * H, out.data() + (i * T + T - 1) * H, H * 4));
}

}  // namespace

int main() {
  std::mt19937 rng(std::random_device{}());
  each_isa([&] {
    for (const Weights kind : {Weights::f32, Weights::x24, Weights::bf16, Weights::i8})
      for (const std::int64_t M : {1, 16, 33, 150})
        for (const std::int64_t C : {1, 6, 16}) convolution(kind, M, C, 3, rng);
    for (const std::int64_t W : {1, 7, 16, 64, 128, 200}) attention(W, rng);
    for (const std::int64_t n : {1, 5, 16, 67}) pointwise(n, rng), recurrent(n, rng);
  });
}
