// The deciding sums of a search, in one order on every machine.
#pragma once
#include "simd.hpp"

namespace ossicle::OSSICLE_NS {
double exact_distance(const double* r, const float* c, std::int64_t D);
double exact_dot(const double* r, const float* c, std::int64_t D);
void subtract(double* r, const float* c, std::int64_t D);
}  // namespace ossicle::OSSICLE_NS
