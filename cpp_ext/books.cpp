#include "books.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ossicle {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t m) { return (n + m - 1) / m * m; }

// The order of isa/exact.cpp, so that norms agree with the reference to the last bit.
double exact_squares(const float* c, std::int64_t D) {
  double a[8] = {};
  for (std::int64_t d = 0; d < D; ++d) a[d % 8] += static_cast<double>(c[d]) * c[d];
  return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

float up(double v) { return static_cast<float>(v * 1.000001); }

}  // namespace

PackedBooks::PackedBooks(const float* rows, std::int64_t K, std::int64_t N, std::int64_t D, bool cosine,
                         bool integer)
    : integer_(integer && N > 16) {
  const int group = N <= 16 ? 16 : 64;
  books_ = {K, N, D, round_up(N, group), round_up(D, 16), group, cosine, nullptr};
  rows_ = Array<float>(K * N * D);
  std::copy_n(rows, K * N * D, rows_.get());
  mean_ = Array<double>(K * D);
  if (cosine) norm_ = Array<double>(K * N);
  half_ = Array<float>(K * books_.Np);
  if (integer_) {
    scale_ = Array<float>(K * books_.Np);
    low_ = Array<std::uint8_t>(K * books_.Np * books_.Dp);
  } else {
    wide_ = Array<float>(K * books_.Np * D);
  }
  layers_.resize(K);
  for (std::int64_t k = 0; k < K; ++k) pack_layer(k);
  books_.layers = layers_.data();
}

void PackedBooks::pack_layer(std::int64_t k) {
  const auto [K, N, D, Np, Dp, group, cosine, unused] = books_;
  (void)K, (void)unused;
  const float* rows = rows_.get() + k * N * D;
  double* mean = mean_.get() + k * D;
  double* norm = cosine ? norm_.get() + k * N : nullptr;
  float* half = half_.get() + k * Np;
  std::vector<double> centre(D, 0.0), row(D);
  if (cosine)
    for (std::int64_t n = 0; n < N; ++n) norm[n] = std::sqrt(exact_squares(rows + n * D, D));
  auto unit = [&](std::int64_t n) { return !cosine ? 1.0 : norm[n] > 0.0 ? 1.0 / norm[n] : 0.0; };
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t d = 0; d < D; ++d) centre[d] += rows[n * D + d] * unit(n);
  for (double& m : centre) m /= static_cast<double>(N);
  // l2 subtracts the mean from the residual too; for cosine it only shifts every score alike.
  if (!cosine) std::copy(centre.begin(), centre.end(), mean);

  double row_max = 0.0, error_max = 0.0, half_max = 0.0, mean_norm = 0.0;
  for (std::int64_t d = 0; d < D; ++d) mean_norm += centre[d] * centre[d];
  for (std::int64_t n = 0; n < N; ++n) {
    double squares = 0.0, peak = 0.0, error = 0.0;
    for (std::int64_t d = 0; d < D; ++d) {
      row[d] = rows[n * D + d] * unit(n) - centre[d];
      squares += row[d] * row[d];
      peak = std::max(peak, std::fabs(row[d]));
    }
    if (integer_) {
      float scale = static_cast<float>(peak / 127.0);
      if (!(scale > 0.0f)) scale = 0.0f;
      scale_[k * Np + n] = scale;
      std::uint8_t* at = low_.get() + k * Np * Dp + (n / 64) * Dp * 64 + (n % 64) * 4;
      for (std::int64_t d = 0; d < Dp; ++d) {
        const double v = d < D && scale > 0.0f ? row[d] / scale : 0.0;
        const double q = std::clamp(std::nearbyint(v), -127.0, 127.0);
        const double e = d < D ? row[d] - q * scale : 0.0;
        error += e * e;
        at[(d / 4) * 256 + d % 4] = static_cast<std::uint8_t>(static_cast<int>(q) + 128);
      }
    } else {
      float* at = wide_.get() + k * Np * D + (n / group) * D * group + n % group;
      for (std::int64_t d = 0; d < D; ++d) {
        at[d * group] = static_cast<float>(row[d]);
        const double e = row[d] - static_cast<double>(at[d * group]);
        error += e * e;
      }
    }
    half[n] = cosine ? 0.0f : static_cast<float>(0.5 * squares);
    row_max = std::max(row_max, squares);
    error_max = std::max(error_max, error);
    half_max = std::max(half_max, cosine ? 0.0 : 0.5 * squares);
  }
  for (std::int64_t n = N; n < Np; ++n) half[n] = std::numeric_limits<float>::infinity();
  layers_[k] = {rows, mean, norm, half, integer_ ? scale_.get() + k * Np : nullptr,
                integer_ ? low_.get() + k * Np * Dp : nullptr, integer_ ? nullptr : wide_.get() + k * Np * D,
                up(std::sqrt(row_max)), up(std::sqrt(error_max)), up(half_max), up(std::sqrt(mean_norm))};
}

void PackedBooks::run(const void* x, bool wide, std::int64_t T, std::int64_t layers, std::int32_t* codes,
                      std::int64_t stride) const {
  const Table& run = table();
  const std::size_t tile = std::min<std::int64_t>(run.search_tile, T), Dp = books_.Dp, Np = books_.Np;
  Scratch& s = Scratch::here();
  s.begin(Scratch::bytes<double>(tile * Dp) + Scratch::bytes<float>(tile * Dp) + Scratch::bytes<std::int8_t>(tile * Dp) +
          Scratch::bytes<float>(tile * Np) + Scratch::bytes<float>(tile * 4) + Scratch::bytes<std::int32_t>(tile));
  const SearchScratch scratch{s.take<double>(tile * Dp), s.take<float>(tile * Dp), s.take<std::int8_t>(tile * Dp),
                              s.take<float>(tile * Np), s.take<float>(tile * 4), s.take<std::int32_t>(tile)};
  run.search(books_, x, wide, T, layers, codes, stride, scratch);
}

void PackedBooks::encode(const float* x, std::int64_t T, std::int64_t layers, std::int32_t* codes,
                         std::int64_t stride) const {
  run(x, false, T, layers, codes, stride);
}
void PackedBooks::encode(const double* x, std::int64_t T, std::int64_t layers, std::int32_t* codes,
                         std::int64_t stride) const {
  run(x, true, T, layers, codes, stride);
}

bool PackedBooks::decode(const std::int32_t* codes, std::int64_t layers, std::int64_t T, float* out) const {
  const std::int64_t N = books_.N, D = books_.D;
  for (std::int64_t i = 0; i < layers * T; ++i)
    if (codes[i] < -1 || codes[i] >= N) return false;
  Scratch& s = Scratch::here();
  s.begin(Scratch::bytes<double>(D));
  double* total = s.take<double>(D);
  for (std::int64_t t = 0; t < T; ++t) {
    std::fill_n(total, D, 0.0);
    for (std::int64_t k = 0; k < layers; ++k) {
      const std::int32_t n = codes[k * T + t];
      if (n < 0) continue;
      const float* row = rows_.get() + (k * N + n) * D;
      for (std::int64_t d = 0; d < D; ++d) total[d] += row[d];
    }
    for (std::int64_t d = 0; d < D; ++d) out[t * D + d] = static_cast<float>(total[d]);
  }
  return true;
}

}  // namespace ossicle
