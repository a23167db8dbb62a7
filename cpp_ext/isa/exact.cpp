// Eight running sums, element d in sum d % 8, folded as a tree: the NumPy reference adds in this order too.
#include "exact.hpp"

namespace ossicle::OSSICLE_NS {
namespace {
constexpr int E = 8;
constexpr int ER = OSSICLE_LANES >= 8 ? (OSSICLE_LANES == 16 ? 1 : 2) : 4;  // registers of 8 doubles
typedef double vd __attribute__((vector_size(8 * E / ER)));
typedef double vdu __attribute__((vector_size(8 * E / ER), aligned(8), may_alias));
typedef float vh __attribute__((vector_size(4 * E / ER), aligned(4), may_alias));
constexpr int P = E / ER;

OSSICLE_INLINE double fold(const vd* acc) {
  alignas(64) double a[E];
  for (int i = 0; i < ER; ++i) *reinterpret_cast<vdu*>(a + i * P) = acc[i];
  return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}
template <class Term>
OSSICLE_INLINE double lanes(const double* r, const float* c, std::int64_t D, Term term) {
  vd acc[ER] = {};
  std::int64_t d = 0;
  for (; d + E <= D; d += E)
    for (int i = 0; i < ER; ++i) {
      const vd x = *reinterpret_cast<const vdu*>(r + d + i * P);
      const vd y = __builtin_convertvector(*reinterpret_cast<const vh*>(c + d + i * P), vd);
      acc[i] = acc[i] + term(x, y);
    }
  if (d < D) {
    alignas(64) double x[E] = {}, y[E] = {};
    for (int j = 0; d + j < D; ++j) x[j] = r[d + j], y[j] = c[d + j];
    for (int i = 0; i < ER; ++i)
      acc[i] = acc[i] + term(*reinterpret_cast<vdu*>(x + i * P), *reinterpret_cast<vdu*>(y + i * P));
  }
  return fold(acc);
}
}  // namespace

double exact_distance(const double* r, const float* c, std::int64_t D) {
  return lanes(r, c, D, [](vd x, vd y) __attribute__((always_inline)) {
    const vd e = x - y;
    return e * e;
  });
}
double exact_dot(const double* r, const float* c, std::int64_t D) {
  return lanes(r, c, D, [](vd x, vd y) __attribute__((always_inline)) { return x * y; });
}
void subtract(double* r, const float* c, std::int64_t D) {
  for (std::int64_t d = 0; d < D; ++d) r[d] -= static_cast<double>(c[d]);
}
void sum_rows(const float* const* rows, std::int64_t count, std::int64_t D, float* out) {
  std::int64_t d = 0;
  for (; d + 4 * E <= D; d += 4 * E) {  // each element row by row, as one after the other
    vd acc[4 * ER] = {};
    for (std::int64_t i = 0; i < count; ++i)
      for (int j = 0; j < 4 * ER; ++j)
        acc[j] = acc[j] + __builtin_convertvector(*reinterpret_cast<const vh*>(rows[i] + d + j * P), vd);
    for (int j = 0; j < 4 * ER; ++j) *reinterpret_cast<vh*>(out + d + j * P) = __builtin_convertvector(acc[j], vh);
  }
  for (; d < D; ++d) {
    double total = 0.0;
    for (std::int64_t i = 0; i < count; ++i) total += static_cast<double>(rows[i][d]);
    out[d] = static_cast<float>(total);
  }
}
}  // namespace ossicle::OSSICLE_NS
