// A single-producer, single-consumer ring of samples for the seam between an audio callback and a thread.
//
// Neither side blocks, allocates or takes a lock. Positions are 64-bit counts since the ring was made, so
// they do not wrap in any lifetime; a full ring refuses the newest samples and counts them.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>

#include "memory.hpp"

namespace ossicle {

class SampleRing {
 public:
  // Room for at least `samples` frames of `channels` interleaved floats.
  SampleRing(std::size_t samples, std::size_t channels)
      : mask_(std::bit_ceil(std::max<std::size_t>(samples, 1)) - 1), channels_(channels), data_((mask_ + 1) * channels) {}

  // Takes as many of n frames as there is room for; the rest is counted as dropped. Producer only.
  std::size_t push(const float* frames, std::size_t n) {
    const std::uint64_t tail = written_.load(std::memory_order_relaxed);
    const std::uint64_t head = read_.load(std::memory_order_acquire);
    const std::size_t room = capacity() - static_cast<std::size_t>(tail - head);
    const std::size_t take = std::min(n, room);
    copy(tail, take, [&](std::size_t at, std::size_t from, std::size_t count) {
      std::memcpy(data_.get() + at * channels_, frames + from * channels_, count * channels_ * sizeof(float));
    });
    written_.store(tail + take, std::memory_order_release);
    if (take < n) dropped_.fetch_add(n - take, std::memory_order_relaxed);
    return take;
  }

  // Gives up to n frames, oldest first. Consumer only.
  std::size_t pop(float* frames, std::size_t n) {
    const std::uint64_t head = read_.load(std::memory_order_relaxed);
    const std::uint64_t tail = written_.load(std::memory_order_acquire);
    const std::size_t take = std::min(n, static_cast<std::size_t>(tail - head));
    copy(head, take, [&](std::size_t at, std::size_t to, std::size_t count) {
      std::memcpy(frames + to * channels_, data_.get() + at * channels_, count * channels_ * sizeof(float));
    });
    read_.store(head + take, std::memory_order_release);
    return take;
  }

  std::size_t capacity() const { return mask_ + 1; }
  std::size_t channels() const { return channels_; }
  std::size_t size() const {
    const std::uint64_t head = read_.load(std::memory_order_acquire);
    return static_cast<std::size_t>(written_.load(std::memory_order_acquire) - head);
  }
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  template <class Move>
  void copy(std::uint64_t from, std::size_t n, Move move) {
    const std::size_t at = static_cast<std::size_t>(from) & mask_;
    const std::size_t first = std::min(n, capacity() - at);
    if (first) move(at, std::size_t{0}, first);
    if (n > first) move(std::size_t{0}, first, n - first);
  }

  const std::size_t mask_, channels_;
  Array<float> data_;
  alignas(64) std::atomic<std::uint64_t> written_{0};
  alignas(64) std::atomic<std::uint64_t> read_{0};
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace ossicle
