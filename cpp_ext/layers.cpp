#include "layers.hpp"

#include <algorithm>
#include <cmath>

#include "weights.hpp"

namespace ossicle {
namespace {

std::int64_t pack_of(Weights kind) { return wide_inputs(kind) ? 1 : kind == Weights::bf16 ? 2 : 4; }
std::int64_t bytes_of(Weights kind) { return kind == Weights::x24 ? 3 : 4 / pack_of(kind); }
std::int64_t round_up(std::int64_t n, std::int64_t m) { return (n + m - 1) / m * m; }
std::int64_t wrap(std::int64_t n, std::int64_t m) { return ((n % m) + m) % m; }

}  // namespace

void* gemm_room(std::size_t bytes) {
  static thread_local Scratch room;  // apart from Scratch::here(), where the pointers to the rows lie
  room.begin(bytes);
  return room.take<unsigned char>(bytes);
}

PackedMatrix::PackedMatrix(const float* rows, std::int64_t M, std::int64_t taps, std::int64_t C, const float* bias,
                           Weights kind, float input_scale)
    : taps_(taps), C_(C), padded_(round_up(C, pack_of(kind))) {
  const std::int64_t pack = pack_of(kind), K = taps * padded_, Mp = round_up(M, 16);
  const std::int64_t Kp = wide_inputs(kind) ? K : round_up(K, 16 * pack);
  // A prefetch runs up to 2 KiB ahead of the weights, and a load of 24-bit ones 16 bytes: both stay inside here.
  data_ = Array<unsigned char>(Mp * Kp * bytes_of(kind) + 4096);
  turn_ = Array<unsigned char>(1);
  if (bias) {
    bias_ = Array<float>(Mp);
    std::copy_n(bias, M, bias_.get());
  }
  if (kind == Weights::i8 || kind == Weights::x24) scale_ = Array<float>(Mp);
  for (std::int64_t m = 0; m < Mp; ++m) {
    float scale = 0.0f;
    if (m < M && kind == Weights::i8) {
      for (std::int64_t i = 0; i < taps * C; ++i) scale = std::max(scale, std::fabs(rows[m * taps * C + i]));
      scale /= 127.0f;
      scale_[m] = scale * input_scale;
    }
    Fixed24 fixed;
    if (kind == Weights::x24) {
      for (std::int64_t i = 0; m < M && i < taps * C; ++i) fixed.see(rows[m * taps * C + i]);
      scale_[m] = fixed.scale();
    }
    for (std::int64_t t = 0; t < taps; ++t)
      for (std::int64_t c = 0; c < padded_; ++c) {
        const float w = m < M && c < C ? rows[(m * taps + t) * C + c] : 0.0f;
        const std::int64_t k = t * padded_ + c;
        const std::int64_t at = (m / 16) * 16 * Kp + (k / pack) * 16 * pack + (m % 16) * pack + k % pack;
        if (kind == Weights::f32) reinterpret_cast<float*>(data_.get())[at] = w;
        else if (kind == Weights::bf16) reinterpret_cast<std::uint16_t*>(data_.get())[at] = to_bf16(w);
        else if (kind == Weights::x24) fixed.write(w, data_.get() + 3 * at);
        else data_[at] = static_cast<unsigned char>(128 + (scale > 0.0f ? std::lrint(w / scale) : 0));
      }
  }
  matrix_ = {M, K, Mp, Kp, kind, data_.get(), bias ? bias_.get() : nullptr, scale_.get(),
             kind == Weights::i8 ? 1.0f / input_scale : 0.0f, turn_.get()};
}

void PackedMatrix::convert(const float* from, void* to) const {
  if (wide_inputs(matrix_.kind)) {
    std::copy_n(from, C_, static_cast<float*>(to));
    return;
  }
  table().narrow(from, C_, matrix_.kind, matrix_.input_inverse, to);
  const std::size_t bytes = item();
  std::memset(static_cast<unsigned char*>(to) + C_ * bytes, 0, (padded_ - C_) * bytes);
}

void conv_step(const PackedMatrix& w, const ConvStep& s) {
  const std::int64_t frames = s.T / s.stride, taps = w.taps(), C = w.C(), H = s.history;
  const std::size_t row = w.padded() * w.item();
  const bool as_is = wide_inputs(w.matrix().kind);
  Scratch& scratch = Scratch::here();
  scratch.begin(Scratch::bytes<const void*>(s.B * frames * taps) +
                (as_is ? 0 : Scratch::bytes<unsigned char>(s.B * s.T * row)));
  const void** rows = scratch.take<const void*>(s.B * frames * taps);
  const unsigned char* fresh = reinterpret_cast<const unsigned char*>(s.x);
  if (!as_is) {
    unsigned char* made = scratch.take<unsigned char>(s.B * s.T * row);
    for (std::int64_t i = 0; i < s.B * s.T; ++i) w.convert(s.x + i * C, made + i * row);
    fresh = made;
  }
  unsigned char* ring = static_cast<unsigned char*>(s.ring);
  for (std::int64_t b = 0; b < s.B; ++b)
    for (std::int64_t j = 0; j < frames; ++j)
      for (std::int64_t i = 0; i < taps; ++i) {
        const std::int64_t at = j * s.stride + s.stride - 1 - (taps - 1 - i) * s.dilation;
        rows[(b * frames + j) * taps + i] =
            at >= 0 ? static_cast<const void*>(fresh + (b * s.T + at) * row)
                    : static_cast<const void*>(ring + (b * H + wrap(s.position[b] + at, H)) * row);
      }
  table().gemm(w.matrix(), rows, s.B * frames, taps, w.padded(), s.out, w.matrix().M);
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t t = std::max<std::int64_t>(0, s.T - H); t < s.T; ++t)
      std::memcpy(ring + (b * H + wrap(s.position[b] + t, H)) * row, fresh + (b * s.T + t) * row, row);
    s.position[b] += s.T;
  }
}

void gru_step(const PackedMatrix& input, const PackedMatrix& hidden, const GruStep& s) {
  const std::int64_t I = input.C(), H = hidden.C(), F = s.B * s.T;
  Scratch& scratch = Scratch::here();
  scratch.begin(Scratch::bytes<float>(F * 3 * H) + Scratch::bytes<float>(s.B * 3 * H) + Scratch::bytes<const void*>(F));
  float* xi = scratch.take<float>(F * 3 * H);
  float* hh = scratch.take<float>(s.B * 3 * H);
  const void** rows = scratch.take<const void*>(F);
  const Table& run = table();
  for (std::int64_t f = 0; f < F; ++f) rows[f] = s.x + f * I;
  run.gemm(input.matrix(), rows, F, 1, I, xi, 3 * H);
  for (std::int64_t b = 0; b < s.B; ++b) rows[b] = s.h + b * H;
  for (std::int64_t t = 0; t < s.T; ++t) {
    run.gemm(hidden.matrix(), rows, s.B, 1, H, hh, 3 * H);
    for (std::int64_t b = 0; b < s.B; ++b) {
      run.gru_gates(xi + (b * s.T + t) * 3 * H, hh + b * 3 * H, H, s.h + b * H);
      std::copy_n(s.h + b * H, H, s.out + (b * s.T + t) * H);
    }
  }
}

namespace {

// cos and sin of position * base^(-2 i / width), i < width / 2, as the angle of a run of 16 positions plus that within
// the run: both are kept per thread, since a model has one or two widths and its streams move on by one. The angles
// are functions of the position alone, whatever was asked before.
class Rotary {
 public:
  void angles(std::int64_t position, std::int64_t width, double base, float* cosine, float* sine) {
    const std::int64_t half = width / 2;
    if (width != width_ || base != base_) prepare(width, base);
    const Run& run = of(position / kLength, half);
    const double *c = within_c_ + position % kLength * half, *s = within_s_ + position % kLength * half;
    for (std::int64_t i = 0; i < half; ++i) {
      cosine[i] = static_cast<float>(run.c[i] * c[i] - run.s[i] * s[i]);
      sine[i] = static_cast<float>(run.s[i] * c[i] + run.c[i] * s[i]);
    }
  }

 private:
  static constexpr std::int64_t kLength = 16, kRuns = 8, kHalf = 128;
  struct Run {
    std::int64_t number;
    double c[kHalf], s[kHalf];
  };

  void prepare(std::int64_t width, double base) {
    const std::int64_t half = width / 2;
    if (!runs_.size()) runs_ = Array<Run>(kRuns), within_ = Array<double>(2 * kLength * kHalf);
    within_c_ = within_.get(), within_s_ = within_.get() + kLength * kHalf;
    for (std::int64_t i = 0; i < half; ++i) rate_[i] = std::pow(base, -2.0 * static_cast<double>(i) / width);
    for (std::int64_t p = 0; p < kLength; ++p)
      for (std::int64_t i = 0; i < half; ++i) {
        within_c_[p * half + i] = std::cos(static_cast<double>(p) * rate_[i]);
        within_s_[p * half + i] = std::sin(static_cast<double>(p) * rate_[i]);
      }
    for (std::int64_t r = 0; r < kRuns; ++r) runs_[r].number = -1;
    width_ = width, base_ = base;
  }

  const Run& of(std::int64_t number, std::int64_t half) {
    Run& run = runs_[number % kRuns];
    if (run.number != number) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double a = static_cast<double>(number * kLength) * rate_[i];
        run.c[i] = std::cos(a), run.s[i] = std::sin(a);
      }
      run.number = number;
    }
    return run;
  }

  std::int64_t width_ = 0;
  double base_ = 0.0, rate_[kHalf];
  double *within_c_ = nullptr, *within_s_ = nullptr;
  Array<Run> runs_;
  Array<double> within_;
};

void turn(const float* from, std::int64_t width, const float* cosine, const float* sine, bool interleaved, float* to) {
  const std::int64_t half = width / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const std::int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
    const float x = from[a], y = from[b];
    to[a] = x * cosine[i] - y * sine[i];
    to[b] = x * sine[i] + y * cosine[i];
  }
}

}  // namespace

void attention_step(const AttentionStep& s) {
  const std::int64_t W = s.width, cap = s.capacity;
  Scratch& scratch = Scratch::here();
  scratch.begin(2 * Scratch::bytes<float>(s.T * W / 2 + 1) + Scratch::bytes<float>(W));
  float* cosine = scratch.take<float>(s.T * W / 2 + 1);
  float* sine = scratch.take<float>(s.T * W / 2 + 1);
  float* turned = scratch.take<float>(W);
  static thread_local Rotary rotary;
  const Table& run = table();
  for (std::int64_t b = 0; b < s.B; ++b) {
    if (s.active && !s.active[b]) {
      std::fill_n(s.out + b * s.T * s.heads * W, s.T * s.heads * W, 0.0f);
      continue;
    }
    const std::int64_t start = s.position[b];
    for (std::int64_t t = 0; t < s.T; ++t) {
      const std::int64_t slot = (start + t) % cap;
      float *c = cosine + t * (W / 2), *n = sine + t * (W / 2);
      if (s.base > 0.0) rotary.angles(start + t, W, s.base, c, n);
      for (std::int64_t h = 0; h < s.kv_heads; ++h) {
        const std::int64_t from = ((b * s.T + t) * s.kv_heads + h) * W;
        const float* key = s.k + from;
        if (s.base > 0.0) turn(key, W, c, n, s.interleaved, turned), key = turned;
        float* to = s.keys + (b * s.kv_heads + h) * cap * W + (slot / 16) * W * 16 + slot % 16;
        for (std::int64_t d = 0; d < W; ++d) to[d * 16] = key[d];
        std::copy_n(s.v + from, W, s.values + ((b * s.kv_heads + h) * cap + slot) * W);
      }
    }
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t kv = b * s.kv_heads + h / (s.heads / s.kv_heads);
      for (std::int64_t t = 0; t < s.T; ++t) {
        const std::int64_t at = ((b * s.T + t) * s.heads + h) * W, position = start + t;
        const std::int64_t first = std::max<std::int64_t>(0, position - s.window + 1);
        const float* query = s.q + at;
        if (s.base > 0.0) {
          turn(query, W, cosine + t * (W / 2), sine + t * (W / 2), s.interleaved, turned);
          query = turned;
        }
        run.attend(query, s.keys + kv * cap * W, s.values + kv * cap * W, cap, first % cap, position - first + 1, W,
                   s.scale, s.out + at);
      }
    }
    s.position[b] = start + s.T;
  }
}

void cross_step(const CrossStep& s) {
  const std::int64_t W = s.width;
  for (std::int64_t b = 0; b < s.B; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t kv = b * s.kv_heads + h / (s.heads / s.kv_heads);
      for (std::int64_t t = 0; t < s.T; ++t) {
        const std::int64_t at = ((b * s.T + t) * s.heads + h) * W;
        table().attend(s.q + at, s.keys + kv * s.capacity * W, s.values + kv * s.capacity * W, s.capacity, 0,
                       s.lengths[b], W, s.scale, s.out + at);
      }
    }
}

}  // namespace ossicle
