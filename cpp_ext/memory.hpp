// Aligned arrays that own their memory, and one growing scratch per thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace ossicle {

// n zeroed elements on a 64-byte boundary.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(std::size_t n) : size_(n) {
    if (!n) return;
    const std::size_t bytes = (n * sizeof(T) + 63) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (!data_) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  Array(Array&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Array& operator=(Array&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { std::free(data_); }
  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  std::size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// Memory for one step: grows to the largest step seen by this thread, then never allocates again.
class Scratch {
 public:
  static Scratch& here() {
    static thread_local Scratch scratch;
    return scratch;
  }
  void begin(std::size_t bytes) {
    if (bytes > room_.size()) room_ = Array<unsigned char>(bytes);
    used_ = 0;
  }
  template <class T>
  T* take(std::size_t n) {
    T* p = reinterpret_cast<T*>(room_.get() + used_);
    used_ += bytes<T>(n);
    return p;
  }
  template <class T>
  static std::size_t bytes(std::size_t n) {
    return (n * sizeof(T) + 63) / 64 * 64;
  }

 private:
  Array<unsigned char> room_;
  std::size_t used_ = 0;
};

}  // namespace ossicle
