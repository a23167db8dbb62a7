// The functions that table.cpp collects; what they do is said in ../table.hpp.
#pragma once
#include "../table.hpp"
#include "simd.hpp"

// Residuals searched at once: their scores over 1024 codes stay in the first cache, or in the second where tiles
// are so fast that reading the codes once for more residuals counts.
#if defined(__AMX_TILE__)
#define OSSICLE_SEARCH_TILE 32
#else
#define OSSICLE_SEARCH_TILE 8
#endif

namespace ossicle::OSSICLE_NS {
void search(const Books&, const void* x, bool wide, std::int64_t T, std::int64_t layers,
            std::int32_t* codes, std::int64_t stride, const SearchScratch&);
void sum_rows(const float* const* rows, std::int64_t count, std::int64_t D, float* out);
void gemm(const Matrix&, const void* const* rows, std::int64_t F, std::int64_t taps,
          std::int64_t width, float* out, std::int64_t out_stride);
void attend(const float* q, const float* keys, const float* values, std::int64_t capacity,
            std::int64_t first, std::int64_t count, std::int64_t width, float scale, float* out);
void snake(const float* x, const float* alpha, const float* inverse, std::int64_t rows,
           std::int64_t C, float* out);
void narrow(const float* x, std::int64_t n, Weights kind, float inverse, void* out);
void combine(const float* const* terms, const float* weights, std::int64_t count, std::int64_t n,
             float* out);
void gru_gates(const float* xi, const float* hh, std::int64_t H, float* h);
void log_mel(const float* spectrum, std::int64_t bins, const std::int32_t* first,
             const std::int32_t* length, const float* weights, std::int64_t stride,
             std::int64_t mels, int power, float offset, float floor, float log_scale, float* out);
}  // namespace ossicle::OSSICLE_NS
