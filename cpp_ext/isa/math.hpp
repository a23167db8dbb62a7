// exp, log, tanh, sigmoid and squared sine on registers; relative error about 2e-7. NaN in gives NaN out.
#pragma once
#include "simd.hpp"

namespace ossicle {
namespace {

OSSICLE_INLINE vf clamp(vf v, float lo, float hi) {  // comparisons with NaN are false: NaN stays
  v = pick(v < all(lo), all(lo), v);
  return pick(v > all(hi), all(hi), v);
}

// Cephes expf: 2^n times a polynomial on [-ln2/2, ln2/2].
OSSICLE_INLINE vf exp_(vf x) {
  const vf c = clamp(x, -87.0f, 88.0f);
  const vf n = nearest(c * 1.44269504088896341f);
  vf r = c - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vf p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const vi shift = toint(n) << 23;
  const vf y = floats(bits(p) + shift);
  const vf z = pick(x < all(-87.0f), vf{}, y);  // below: 0
  return pick(x != x, x, pick(x > all(88.0f), all(__builtin_inff()), z));
}

OSSICLE_INLINE vf sigmoid_(vf x) { return 1.0f / (1.0f + exp_(-x)); }

// Odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
OSSICLE_INLINE vf tanh_(vf x) {
  const vf c = clamp(x, -9.5f, 9.5f);
  const vf large = 1.0f - 2.0f / (exp_(2.0f * c) + 1.0f);
  const vf s = c * c;
  vf p = all(-5.70498872745e-3f);
  p = p * s + 2.06390887954e-2f;
  p = p * s + -5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s + -3.33332819422e-1f;
  const vf small = c + c * s * p;
  const vf y = pick(absolute(c) < all(0.625f), small, large);
  return pick(x != x, x, y);
}

// Cephes logf for x > 0 (smaller than the least normal number counts as that number).
OSSICLE_INLINE vf log_(vf x) {
  const vf c = pick(x < all(1.17549435e-38f), all(1.17549435e-38f), x);
  vi e = ((bits(c) >> 23) & 0xff) - 126;
  vf m = floats((bits(c) & 0x007fffff) | 0x3f000000);
  const vi low = m < all(0.707106781186547524f);
  e = e + low;  // a true lane is -1
  m = pick(low, m + m, m) - 1.0f;
  const vf s = m * m;
  vf p = all(7.0376836292e-2f);
  p = p * m + -1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m + -1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m + -1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m + -2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  vf y = m * s * p;
  const vf n = tofloat(e);
  y = y + n * -2.12194440e-4f - 0.5f * s;
  y = m + y + n * 0.693359375f;
  return pick(x != x, x, pick(x > all(3.4028234e38f), x, y));
}

// sin(x)^2, by reduction to a multiple of pi (three parts, exact to |x| = 1e4; beyond that the error is that of x).
OSSICLE_INLINE vf sine_squared(vf x) {
  const vf n = nearest(clamp(x, -4e6f, 4e6f) * 0.318309886183790672f);
  vf r = x - n * 3.140625f;
  r = r - n * 9.67502593994140625e-4f;
  r = r - n * 1.509957990978376432e-7f;
  const vf s = r * r;
  vf p = all(-2.3889859e-08f);
  p = p * s + 2.7525562e-06f;
  p = p * s + -1.9840874e-04f;
  p = p * s + 8.3333310e-03f;
  p = p * s + -1.6666667e-01f;
  const vf y = r + r * s * p;
  return y * y;
}

}  // namespace
}  // namespace ossicle
