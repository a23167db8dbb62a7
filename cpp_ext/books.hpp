// Codebooks packed for search.
#pragma once
#include <vector>

#include "memory.hpp"
#include "table.hpp"

namespace ossicle {

class PackedBooks {
 public:
  // rows: [K, N, D], copied. `integer` asks for an int8 first pass where it fits.
  PackedBooks(const float* rows, std::int64_t K, std::int64_t N, std::int64_t D, bool cosine, bool integer);

  // codes: [layers, T] with the given stride between layers. x: [T, D].
  void encode(const float* x, std::int64_t T, std::int64_t layers, std::int32_t* codes, std::int64_t stride) const;
  void encode(const double* x, std::int64_t T, std::int64_t layers, std::int32_t* codes, std::int64_t stride) const;
  // Sums the rows named by codes [layers, T] into out [T, D] in fp64; -1 adds nothing. False: a code is out of range.
  bool decode(const std::int32_t* codes, std::int64_t layers, std::int64_t T, float* out) const;

  std::int64_t K() const { return books_.K; }
  std::int64_t N() const { return books_.N; }
  std::int64_t D() const { return books_.D; }
  bool cosine() const { return books_.cosine; }
  bool integer() const { return integer_; }
  // How many b_j the rows of book k are sums with (1: a plain book).
  std::int64_t outer(std::int64_t k) const { return outer_[k]; }

 private:
  struct Centred;

  void run(const void* x, bool wide, std::int64_t T, std::int64_t layers, std::int32_t* codes,
           std::int64_t stride) const;
  Centred centred(const float* rows) const;
  std::size_t room(std::int64_t outer) const;  // bytes of a layer's tables
  Rows pack_rows(const std::vector<double>& rows, int group);
  Rows pack_split(const std::vector<double>& rows);
  Layer pack_layer(const float* rows, const Centred& c);
  template <class T>
  T* take(std::size_t n) {
    T* p = reinterpret_cast<T*>(room_.get() + used_);
    used_ += Scratch::bytes<T>(n);
    return p;
  }

  Books books_{};
  bool integer_;
  std::vector<Layer> layers_;
  std::vector<std::int64_t> outer_;
  Array<unsigned char> room_;
  std::size_t used_ = 0;
  float* rows_ = nullptr;  // [K, N, D] as given
};

}  // namespace ossicle
