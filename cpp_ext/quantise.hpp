// Vector quantisation at the edge of a step: nothing lies between a network and its codes.
#pragma once
#include <memory>

#include "books.hpp"

namespace ossicle {

// Vectors [B, T, D] on one side and codes [B, K, T] on the other, at fixed addresses that outlive it.
class Quantiser {
 public:
  // layers: [B], how many codes each stream wants, or nullptr; what is not from 1 to K means all.
  Quantiser(std::shared_ptr<const PackedBooks> books, float* vectors, std::int32_t* codes, const std::int32_t* layers,
            std::int64_t B, std::int64_t K, std::int64_t T);
  void encode();  // -1 in the layers that a stream did not want
  bool decode();  // -1 adds nothing; false: a code is out of range, and nothing was written

 private:
  std::int64_t wanted(std::int64_t b) const;

  std::shared_ptr<const PackedBooks> books_;
  float* vectors_;
  std::int32_t* codes_;
  const std::int32_t* layers_;
  std::int64_t B_, K_, T_;
  Array<std::int32_t> turned_;  // [K, B, T], as the search has them
};

}  // namespace ossicle
