#include "quantise.hpp"

#include <algorithm>
#include <stdexcept>

namespace ossicle {

Quantiser::Quantiser(std::shared_ptr<const PackedBooks> books, float* vectors, std::int32_t* codes,
                     const std::int32_t* layers, std::int64_t B, std::int64_t K, std::int64_t T)
    : books_(std::move(books)), vectors_(vectors), codes_(codes), layers_(layers), B_(B), K_(K), T_(T),
      turned_(K * B * T) {
  if (K < 1 || K > books_->K() || B < 1 || T < 1) throw std::invalid_argument("codes do not fit the books");
}

std::int64_t Quantiser::wanted(std::int64_t b) const {
  return layers_ && layers_[b] >= 1 && layers_[b] < K_ ? layers_[b] : K_;
}

void Quantiser::encode() {
  std::int64_t most = 0;
  for (std::int64_t b = 0; b < B_; ++b) most = std::max(most, wanted(b));
  books_->encode(vectors_, B_ * T_, most, turned_.get(), B_ * T_);
  for (std::int64_t b = 0; b < B_; ++b) {
    const std::int64_t own = wanted(b);
    for (std::int64_t k = 0; k < K_; ++k) {
      std::int32_t* const to = codes_ + (b * K_ + k) * T_;
      if (k < own) std::copy_n(turned_.get() + (k * B_ + b) * T_, T_, to);
      else std::fill_n(to, T_, -1);
    }
  }
}

bool Quantiser::decode() {
  for (std::int64_t b = 0; b < B_; ++b)
    for (std::int64_t k = 0; k < K_; ++k)
      std::copy_n(codes_ + (b * K_ + k) * T_, T_, turned_.get() + (k * B_ + b) * T_);
  return books_->decode(turned_.get(), K_, B_ * T_, vectors_);
}

}  // namespace ossicle
