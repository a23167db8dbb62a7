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

double norm_of(const double* v, std::int64_t D) {
  double squares = 0.0;
  for (std::int64_t d = 0; d < D; ++d) squares += v[d] * v[d];
  return std::sqrt(squares);
}

double longest(const std::vector<double>& rows, std::int64_t D) {
  double most = 0.0;
  for (std::size_t at = 0; at < rows.size(); at += D) most = std::max(most, norm_of(rows.data() + at, D));
  return most;
}

// The parts of a book of sums: means over the rows that share one, which are the best fit.
struct Parts {
  std::vector<double> inner, outer;  // [I, D], [J, D]
};

Parts parts_of(const std::vector<double>& rows, std::int64_t J, std::int64_t D) {
  const std::int64_t N = rows.size() / D, I = N / J;
  Parts p{std::vector<double>(I * D, 0.0), std::vector<double>(J * D, 0.0)};
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t d = 0; d < D; ++d) {
      p.inner[n % I * D + d] += rows[n * D + d] / J;
      p.outer[n / I * D + d] += rows[n * D + d] / I;
    }
  return p;
}

// The largest distance of a row from the sum that stands for it.
double distance(const std::vector<double>& rows, const Parts& p, std::int64_t D) {
  const std::int64_t N = rows.size() / D, I = p.inner.size() / D;
  std::vector<double> e(D);
  double most = 0.0;
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t d = 0; d < D; ++d) e[d] = rows[n * D + d] - p.inner[n % I * D + d] - p.outer[n / I * D + d];
    most = std::max(most, norm_of(e.data(), D));
  }
  return most;
}

// How many b_j the centred rows are sums with, or 1. Rounding of stored rows (fp16: 2^-11) is no obstacle: it
// only widens the error that the search allows for.
std::int64_t outer_of(const std::vector<double>& rows, std::int64_t D) {
  const std::int64_t N = rows.size() / D;
  const double most = longest(rows, D);
  std::int64_t best = 1, least = N / 2;
  for (const std::int64_t J : {2, 4, 8, 16, 32}) {
    const std::int64_t I = N / J, packed = I + round_up(J, 16);
    if (N % J || I % 64 || packed >= least || !(distance(rows, parts_of(rows, J, D), D) <= most / 256)) continue;
    best = J, least = packed;
  }
  return best;
}

// A row in fp32, `group` floats apart; returns the error made.
float to_wide(const double* row, std::int64_t D, float* at, int group) {
  std::vector<double> off(D);
  for (std::int64_t d = 0; d < D; ++d) off[d] = row[d] - (at[d * group] = static_cast<float>(row[d]));
  return up(norm_of(off.data(), D));
}

// A row in bytes of a scale of its own, in fours `group` fours apart; returns the error made.
float to_low(const double* row, std::int64_t D, std::int64_t Dp, std::uint8_t* at, int group, float& scale) {
  std::vector<double> off(D);
  double peak = 0.0;
  for (std::int64_t d = 0; d < D; ++d) peak = std::max(peak, std::fabs(row[d]));
  scale = static_cast<float>(peak / 127.0);
  if (!(scale > 0.0f)) scale = 0.0f;
  for (std::int64_t d = 0; d < Dp; ++d) {
    const double v = d < D && scale > 0.0f ? row[d] / scale : 0.0;
    const double q = std::clamp(std::nearbyint(v), -127.0, 127.0);
    if (d < D) off[d] = row[d] - q * scale;
    at[(d / 4) * 4 * group + d % 4] = static_cast<std::uint8_t>(static_cast<int>(q) + 128);
  }
  return up(norm_of(off.data(), D));
}

// Numbers in 16 bits each: value n is low + step * of[n], but for off.
struct Sixteenths {
  float low, step, off;
};

Sixteenths to_sixteen(const std::vector<double>& values, std::uint16_t* of) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  Sixteenths s{static_cast<float>(*least), static_cast<float>((*most - *least) / 65535.0), 0.0f};
  if (!std::isfinite(s.step) || !std::isfinite(static_cast<float>(*most)))  // then every row is decided exactly
    return {0.0f, 0.0f, std::numeric_limits<float>::infinity()};
  double off = 0.0;
  for (std::size_t n = 0; n < values.size(); ++n) {
    const double v = s.step > 0.0f ? (values[n] - s.low) / s.step : 0.0;
    of[n] = static_cast<std::uint16_t>(std::clamp(std::nearbyint(v), 0.0, 65535.0));
    off = std::max(off, std::fabs(values[n] - (static_cast<double>(s.low) + static_cast<double>(s.step) * of[n])));
  }
  s.off = up(off);
  return s;
}

}  // namespace

// A book as the search sees it: rows off their mean (of unit length for cosine), whole or as parts.
struct PackedBooks::Centred {
  std::vector<double> mean, norm, rows;  // [D] that are floats, [N] or empty, [N, D]
  std::int64_t outer = 1;
};

PackedBooks::PackedBooks(const float* rows, std::int64_t K, std::int64_t N, std::int64_t D, bool cosine,
                         bool integer)
    : integer_(integer && N > 16) {
  const int group = N <= 16 ? 16 : 64;
  books_ = {K, N, D, round_up(N, group), round_up(D, 16), group, cosine, nullptr};
  std::vector<Centred> seen(K);
  std::size_t bytes = Scratch::bytes<float>(K * N * D);
  for (std::int64_t k = 0; k < K; ++k) {
    seen[k] = centred(rows + k * N * D);
    outer_.push_back(seen[k].outer);
    bytes += room(seen[k].outer);
  }
  // One array, a layer's tables in the order in which they are read: on one large page, near each other.
  room_ = Array<unsigned char>(bytes);
  rows_ = take<float>(K * N * D);
  std::copy_n(rows, K * N * D, rows_);
  for (std::int64_t k = 0; k < K; ++k) layers_.push_back(pack_layer(rows_ + k * N * D, seen[k]));
  books_.layers = layers_.data();
}

PackedBooks::Centred PackedBooks::centred(const float* rows) const {
  const std::int64_t N = books_.N, D = books_.D;
  Centred c{std::vector<double>(D, 0.0), {}, std::vector<double>(N * D)};
  if (books_.cosine)
    for (std::int64_t n = 0; n < N; ++n) c.norm.push_back(std::sqrt(exact_squares(rows + n * D, D)));
  auto unit = [&](std::int64_t n) { return c.norm.empty() ? 1.0 : c.norm[n] > 0.0 ? 1.0 / c.norm[n] : 0.0; };
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t d = 0; d < D; ++d) c.mean[d] += rows[n * D + d] * unit(n);
  for (double& m : c.mean) m = static_cast<float>(m / static_cast<double>(N));
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t d = 0; d < D; ++d) c.rows[n * D + d] = rows[n * D + d] * unit(n) - c.mean[d];
  if (!books_.cosine) c.outer = outer_of(c.rows, D);
  return c;
}

std::size_t PackedBooks::room(std::int64_t outer) const {
  const auto& b = books_;
  std::size_t bytes = Scratch::bytes<float>(b.D) + Scratch::bytes<std::uint16_t>(b.Np);
  if (b.cosine) bytes += Scratch::bytes<double>(b.N);
  auto packed = [&](std::int64_t count) {
    const std::size_t wide = Scratch::bytes<float>(count * b.D), low = Scratch::bytes<std::uint8_t>(count * b.Dp);
    return integer_ ? Scratch::bytes<float>(count) + low : wide;
  };
  return bytes + packed(round_up(b.N / outer, b.group)) + (outer > 1 ? packed(round_up(outer, 16)) : 0);
}

// Rows of two bytes each in a group of 16: what one byte leaves over of row i is row i + 8.
Rows PackedBooks::pack_split(const std::vector<double>& rows) {
  const std::int64_t D = books_.D, Dp = books_.Dp, count = rows.size() / D;
  Rows made{16, 16, true, 0.0f, 0.0f, nullptr, nullptr, nullptr};
  std::uint8_t* low = take<std::uint8_t>(16 * Dp);
  float* scales = take<float>(16);
  made.low = low, made.scale = scales;
  for (std::int64_t n = 0; n < 8; ++n) {
    std::vector<double> row(rows.begin() + std::min(n, count - 1) * D, rows.begin() + (std::min(n, count - 1) + 1) * D);
    float error = to_low(row.data(), D, Dp, low + 4 * n, 16, scales[n]);
    for (std::int64_t d = 0; d < D; ++d) row[d] -= (low[(d / 4) * 64 + 4 * n + d % 4] - 128) * static_cast<double>(scales[n]);
    error = to_low(row.data(), D, Dp, low + 4 * (n + 8), 16, scales[n + 8]);
    made.off = std::max(made.off, error);
  }
  return made;
}

Rows PackedBooks::pack_rows(const std::vector<double>& rows, int group) {
  const std::int64_t D = books_.D, Dp = books_.Dp, count = rows.size() / D, padded = round_up(count, group);
  Rows made{padded, group, false, 0.0f, 0.0f, nullptr, nullptr, nullptr};
  float* wide = integer_ ? nullptr : take<float>(padded * D);
  std::uint8_t* low = integer_ ? take<std::uint8_t>(padded * Dp) : nullptr;
  float* scales = integer_ ? take<float>(padded) : nullptr;
  made.wide = wide, made.low = low, made.scale = scales;
  for (std::int64_t n = 0; n < padded; ++n) {
    const double* row = rows.data() + std::min(n, count - 1) * D;
    const std::int64_t first = n / group * group;
    if (!integer_) {
      made.off = std::max(made.off, to_wide(row, D, wide + first * D + n % group, group));
      continue;
    }
    const float error = to_low(row, D, Dp, low + first * Dp + n % group * 4, group, scales[n]);
    if (scales[n] > 0.0f) made.rough = std::max(made.rough, up(static_cast<double>(error) / scales[n]));
    else made.off = std::max(made.off, error);
  }
  return made;
}

Layer PackedBooks::pack_layer(const float* rows, const Centred& c) {
  const std::int64_t N = books_.N, D = books_.D, Np = books_.Np;
  const unsigned char* const tables = room_.get() + used_;
  float* mean = take<float>(D);
  // l2 subtracts the mean from the residual too; for cosine it only shifts every score alike.
  if (!books_.cosine)
    std::transform(c.mean.begin(), c.mean.end(), mean, [](double m) { return static_cast<float>(m); });
  Parts parts{c.rows, std::vector<double>(D, 0.0)};
  if (c.outer > 1) parts = parts_of(c.rows, c.outer, D);
  const Rows pass = pack_rows(parts.inner, books_.group);
  const bool split = integer_ && c.outer > 1 && c.outer <= 8;
  const Rows outer = split ? pack_split(parts.outer) : c.outer > 1 ? pack_rows(parts.outer, 16) : Rows{};

  std::vector<double> halves(Np, 0.0);
  double half_max = 0.0, half_sum = 0.0;
  for (std::int64_t n = 0; n < N && !books_.cosine; ++n) {
    const double length = norm_of(c.rows.data() + n * D, D);
    halves[n] = 0.5 * length * length;
    half_max = std::max(half_max, halves[n]), half_sum += halves[n];
  }
  std::fill(halves.begin() + N, halves.end(), halves[N - 1]);
  std::uint16_t* half = take<std::uint16_t>(Np);
  const Sixteenths coded = to_sixteen(halves, half);
  double* norm = nullptr;
  if (books_.cosine) std::copy(c.norm.begin(), c.norm.end(), norm = take<double>(N));
  const double row_max = longest(c.rows, D), usual = std::sqrt(2.0 * half_sum / static_cast<double>(N));
  const bool tangent = usual > 1e-15 && usual < 1e15;
  return {rows, mean, norm, half, coded.low, coded.step, coded.off, pass, outer, up(row_max), up(half_max),
          up(norm_of(c.mean.data(), D)),
          up(longest(parts.inner, D) + longest(parts.outer, D)), c.outer > 1 ? up(distance(c.rows, parts, D)) : 0.0f,
          tangent ? up(1.0 / usual) : 0.0f, up(tangent ? 0.5 * usual : row_max), tables,
          room_.get() + used_ - tables};
}

void PackedBooks::run(const void* x, bool wide, std::int64_t T, std::int64_t layers, std::int32_t* codes,
                      std::int64_t stride) const {
  const Table& run = table();
  const std::size_t tile = std::min<std::int64_t>(run.search_tile, T), Dp = books_.Dp, Np = books_.Np;
  Scratch& s = Scratch::here();
  s.begin(Scratch::bytes<double>(tile * Dp) + Scratch::bytes<float>(tile * Dp) +
          Scratch::bytes<std::int8_t>((tile + 1) * Dp) + Scratch::bytes<float>(tile * Np) + Scratch::bytes<float>(3 * Np) +
          Scratch::bytes<float>(tile * 4) + Scratch::bytes<std::int32_t>(tile + 1));
  const SearchScratch scratch{s.take<double>(tile * Dp), s.take<float>(tile * Dp), s.take<std::int8_t>((tile + 1) * Dp),
                              s.take<float>(tile * Np),  s.take<float>(3 * Np),    s.take<float>(tile * 4),
                              s.take<std::int32_t>(tile + 1)};
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
  s.begin(Scratch::bytes<const float*>(layers));
  const float** const rows = s.take<const float*>(layers);
  for (std::int64_t t = 0; t < T; ++t) {
    std::int64_t count = 0;
    for (std::int64_t k = 0; k < layers; ++k)  // rows lie cold and far apart: ask for all of them at once
      if (const std::int32_t n = codes[k * T + t]; n >= 0) {
        const float* const row = rows_ + (k * N + n) * D;
        for (std::int64_t d = 0; d < D && d < 128; d += 16) __builtin_prefetch(row + d);
        rows[count++] = row;
      }
    table().sum_rows(rows, count, D, out + t * D);
  }
  return true;
}

}  // namespace ossicle
