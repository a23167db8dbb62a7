// What each instruction set offers, and the plain structures passed to it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace ossicle {

// Rows packed side by side for a first pass over all of them: in groups of 64, or of 16.
struct Rows {
  std::int64_t count;       // padded to whole groups
  int group;                // 16 or 64
  bool split;               // eight rows at most, of two bytes each: row i + 8 is what row i leaves over
  float rough, off;         // |row - what was packed| is at most rough * scale + off
  const float* scale;       // [count] of the int8 rows, or nullptr
  const std::uint8_t* low;  // [count/group, Dp/4, group, 4] row/scale + 128, or nullptr
  const float* wide;        // [count/group, D, group] in fp32, or nullptr when low is there
};

// One layer of codebooks, packed for a low-precision first pass whose error is bounded.
//
// A row c is kept centred, c' = c - mean. The score of row n for a residual r' = r - mean is
// S_n = h_n - <r', c'_n>; the smallest is nearest (h = |c'|^2 / 2, or 0 for cosine). What a search reads of every layer
// is kept small: a book comes from the third cache or from memory, and its bytes are what the search waits for.
//
// A book may be a table of sums, c'_(j I + i) = a_i + b_j: then <r', c'> = <r', a_i> + <r', b_j>, and
// I + J products score all I J rows. `pass` holds the a_i and `outer` the b_j; plain books have all rows in
// `pass` and an empty `outer`.
struct Layer {
  const float* rows;         // [N, D] as given: what decides and what is subtracted
  const float* mean;         // [D]; zeros for cosine
  const double* norm;        // [N] |c_n| for cosine, nullptr for l2
  const std::uint16_t* half;  // [Np] h_n is half_low + half_step * half[n], but for half_off
  float half_low, half_step, half_off;
  Rows pass, outer;          // in their padding, and in that of half, stands the last row again
  float row_max, half_max, mean_norm;
  float part_max;  // max |a_i| + max |b_j|, or row_max: no product with a packed row is larger
  float slack;     // max |c'_n - a_i - b_j|; 0 in a plain book
  // |c'_n| <= steep * h_n + flat: the tangent to sqrt(2 h) at the rows' mean h (for cosine: 0 and row_max).
  float steep, flat;
  const unsigned char* tables;  // all that a search reads of it but rows
  std::int64_t bytes;
};

struct Books {
  std::int64_t K, N, D, Np, Dp;  // Dp: D rounded up to 16
  int group;                     // codes in a packed group of a plain book: 16 or 64
  bool cosine;
  const Layer* layers;
};

// Memory for a step, owned by the caller's thread; grows outside the instruction-set code.
struct SearchScratch {
  double* residual;     // [tile, Dp]
  float* centred;       // [tile, Dp]
  std::int8_t* low;     // [tile + 1, Dp]: a single residual has two bytes each
  float* parts;         // [tile, Np]: products with the packed rows
  float* edges;         // [3, Np]: the same, less and more by what they may be off; then every code's least score
  float* facts;         // [tile, 4]: scale, norm, error, spare
  std::int32_t* shift;  // [tile + 1]: 128 * sum of low
};

enum class Weights : int { f32 = 0, bf16 = 1, i8 = 2, x24 = 3 };
// Whether the inputs of a product stay fp32, whatever the weights are.
constexpr bool wide_inputs(Weights kind) { return kind == Weights::f32 || kind == Weights::x24; }

// A matrix [M, K] packed in groups of 16 rows: [Mp/16, Kp, 16] (K in pairs for bf16, in fours and + 128 for int8;
// three bytes of a whole number for x24, and 64 bytes may be read from where any 16 of them begin).
// Kp is K rounded up to 64 bytes of inputs for bf16 and int8, so that a group is a whole number of tiles.
struct Matrix {
  std::int64_t M, K, Mp, Kp;
  Weights kind;
  const void* data;
  const float* bias;   // [Mp] or nullptr
  const float* scale;  // [Mp] for int8: weight scale * input scale; for x24: 1/256 of the row's unit
  float input_inverse;  // 1 / input scale for int8
  unsigned char* turn;  // which way the next pass over the weights goes; see goes_back in isa/gemm.cpp
};

struct Table {
  const char* name;
  int lanes;
  bool integer_dot;  // a first pass in int8 is faster than one in fp32
  std::int64_t search_tile;  // residuals searched at once

  // codes[k * stride + t] for k < layers, t < T; x is [T, D] in fp32 (or fp64 if wide).
  void (*search)(const Books&, const void* x, bool wide, std::int64_t T, std::int64_t layers,
                 std::int32_t* codes, std::int64_t stride, const SearchScratch&);

  // out[d] = the sum of rows[i][d] in fp64, in the order of i.
  void (*sum_rows)(const float* const* rows, std::int64_t count, std::int64_t D, float* out);

  // out[f, m] = bias + sum_k W[m, k] * rows[f][k], with the rows of frame f given by pointers [F, taps] to
  // `width` numbers of the kind each; K = taps * width.
  void (*gemm)(const Matrix&, const void* const* rows, std::int64_t F, std::int64_t taps,
               std::int64_t width, float* out, std::int64_t out_stride);

  // One head row of windowed attention; see attention.hpp for the layout.
  void (*attend)(const float* q, const float* keys, const float* values, std::int64_t capacity,
                 std::int64_t first, std::int64_t count, std::int64_t width, float scale, float* out);

  void (*snake)(const float* x, const float* alpha, const float* inverse, std::int64_t rows,
                std::int64_t C, float* out);
  // n inputs of a product in bf16 or int8 (x * inverse, held to 127; NaN is 0).
  void (*narrow)(const float* x, std::int64_t n, Weights kind, float inverse, void* out);
  void (*combine)(const float* const* terms, const float* weights, std::int64_t count,
                  std::int64_t n, float* out);
  void (*gru_gates)(const float* xi, const float* hh, std::int64_t H, float* h);
  void (*log_mel)(const float* spectrum, std::int64_t bins, const std::int32_t* first,
                  const std::int32_t* length, const float* weights, std::int64_t stride,
                  std::int64_t mels, int power, float offset, float floor, float log_scale, float* out);
};

// Memory of this thread for the inputs of a product; grows to the largest seen, on a 64-byte boundary.
void* gemm_room(std::size_t bytes);

const Table& table();                    // the best for this processor, or the one chosen
bool choose(const char* name);           // false if it is unknown or the processor lacks it
std::size_t offered(const char** names, std::size_t room);

}  // namespace ossicle
