// Steps of layers over packed weights: caller's outputs, states in place, any number of streams.
#pragma once
#include "memory.hpp"
#include "table.hpp"

namespace ossicle {

// Weights [M, taps, C] packed for `gemm`; C is padded to whole pairs (bf16) or fours (int8).
class PackedMatrix {
 public:
  PackedMatrix(const float* rows, std::int64_t M, std::int64_t taps, std::int64_t C, const float* bias, Weights kind,
               float input_scale);
  const Matrix& matrix() const { return matrix_; }
  std::int64_t taps() const { return taps_; }
  std::int64_t C() const { return C_; }
  std::int64_t padded() const { return padded_; }
  // Bytes of an input.
  std::size_t item() const { return wide_inputs(matrix_.kind) ? 4 : matrix_.kind == Weights::bf16 ? 2 : 1; }
  // Converts a row of C floats to `padded()` numbers of the kind.
  void convert(const float* from, void* to) const;

 private:
  Matrix matrix_{};
  std::int64_t taps_, C_, padded_;
  Array<unsigned char> data_, turn_;
  Array<float> bias_, scale_;
};

struct ConvStep {
  std::int64_t B, T, stride, dilation, history;
  const float* x;          // [B, T, C]
  void* ring;              // [B, history, padded], frame a at a % history
  std::int64_t* position;  // [B] frames seen
  float* out;              // [B, T / stride, M]
};
// The newest tap of output j lies on input j * stride + stride - 1.
void conv_step(const PackedMatrix& w, const ConvStep& s);

struct GruStep {
  std::int64_t B, T;
  const float* x;  // [B, T, I]
  float* h;        // [B, H]
  float* out;      // [B, T, H]
};
void gru_step(const PackedMatrix& input, const PackedMatrix& hidden, const GruStep& s);

struct AttentionStep {
  std::int64_t B, T, heads, kv_heads, width, capacity, window;
  float scale;
  double base;        // of the rotary angles; 0 turns nothing
  bool interleaved;   // pairs (2i, 2i + 1) instead of (i, i + width / 2)
  const float *q, *k, *v;  // [B, T, heads | kv_heads, width]
  float* keys;             // [B, kv_heads, capacity / 16, width, 16]
  float* values;           // [B, kv_heads, capacity, width]
  std::int64_t* position;  // [B] tokens seen
  const bool* active;      // [B] or nullptr
  float* out;              // [B, T, heads, width]
};
void attention_step(const AttentionStep& s);

struct CrossStep {
  std::int64_t B, T, heads, kv_heads, width, capacity;
  float scale;
  const float *q, *keys, *values;
  const std::int64_t* lengths;  // [B]
  float* out;
};
void cross_step(const CrossStep& s);

}  // namespace ossicle
