// The least a test needs: a check that prints where it failed.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "table.hpp"

#define CHECK(fine)                                                          \
  do {                                                                       \
    if (!(fine)) {                                                           \
      std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #fine); \
      std::abort();                                                          \
    }                                                                        \
  } while (0)

inline std::vector<float> floats(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

// Runs f once under every instruction set of this processor.
template <class F>
void each_isa(F f) {
  const char* names[8];
  const std::size_t n = ossicle::offered(names, 8);
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(ossicle::choose(names[i]));
    CHECK(!std::strcmp(ossicle::table().name, names[i]));
    f();
  }
}
