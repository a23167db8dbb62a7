// What each instruction set offers to the step executor; chosen together with table.hpp's.
#pragma once
#include <cstdint>

namespace ossicle::native {

// out = f(a) or f(a, b), element by element; p and q are numbers of the operator.
enum class Map : int {
  copy, neg, abs, sqrt, square, reciprocal, exp, log, sigmoid, tanh, relu, leaky, silu, gelu, clip,  // one operand
  round,  // ties to even
  quantise_u8, quantise_i8, dequantise,  // whole numbers as floats; p is the scale, q the zero point
  add, sub, mul, div, least, most, pow,  // two
  count
};
constexpr int kFirstOfTwo = static_cast<int>(Map::add);

enum class Act : int { none, relu, leaky, silu, sigmoid, tanh, gelu, count };

// Over one row of n numbers: to one number, or to a row.
enum class Row : int { sum, mean, sum_square, most, norm, softmax, count };
constexpr int kFirstOfRow = static_cast<int>(Row::norm);

enum class Packing : int { whole, half, fixed24 };  // fp32, bf16, see weights.hpp

struct Gemm {
  const float* const* rows;  // [parts, F]: where part s of row f begins
  const std::int64_t* widths;
  std::int64_t parts, F, K, N;
  const unsigned char* weights;
  Packing packing;
  const float* scale;  // [N rounded up to 16] of fixed24, else nullptr
  const float* bias;
  Act act;
  float alpha;
  float* const* out;             // [F]
  const float* const* residual;  // [F] or nullptr; added after act
};

struct StepTable {
  const char* name;
  std::int64_t fixed_rows;  // up to as many rows of a product weights of 24 bits come sooner than they cost
  void (*map)(Map op, float p, float q, const float* a, std::int64_t a_stride, const float* b, std::int64_t b_stride,
              float* out, std::int64_t out_stride, std::int64_t n);
  void (*gemm)(const Gemm&);
  void (*taps)(const float* x, std::int64_t tap_stride, std::int64_t taps, const float* w, std::int64_t w_stride,
               const float* bias, Act act, float alpha, std::int64_t n, float* out);
  void (*row)(Row op, float p, const float* x, std::int64_t x_stride, const float* scale, const float* bias,
              std::int64_t n, float* out);
};

const StepTable& step_table();  // that of ossicle::table()

}  // namespace ossicle::native
