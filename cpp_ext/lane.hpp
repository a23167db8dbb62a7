// What waits in one stream of an engine: what its client gave, hops for the model, and how long the last hops took.
//
// Items and hops are opaque here and owned by whoever put them in. One thread at a time: the binding holds Python's
// lock. Positions and times are 64-bit counts.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ossicle::engine {

struct Given {
  void* item;
  std::int64_t arrival_ns;
  std::int64_t size;     // what it takes of the room: samples, 1 for a packet, 0 for a word about the stream
  std::int64_t length;   // samples, or -1 for what is no audio
  bool after_gap;        // samples before it were dropped here
};

struct Gap {
  std::int64_t start, stop;  // samples
};

// Bounded in samples: full, it drops the oldest audio and packets and keeps account (live), or refuses the newest.
class Inbox {
 public:
  // What every push touches stands together.
  bool live = true;

 private:
  bool mark_ = false;  // the next chunk follows a gap

 public:
  std::int64_t limit = 1, held = 0;
  std::vector<Given> items;
  std::vector<Gap> gaps;
  std::int64_t dropped = 0;

  bool waiting() const { return !items.empty() || !gaps.empty(); }

  // False if it was refused. `start(item)` is the position of a chunk; what is dropped moves to `gone`.
  template <class Start>
  bool put(Given given, Start start, std::vector<void*>& gone) {
    if (held && given.size && held + given.size > limit) {
      if (!live) return false;
      while (held && held + given.size > limit) drop(start, gone);
    }
    if (mark_ && given.length >= 0) given.after_gap = true, mark_ = false;
    items.push_back(given);
    held += given.size;
    return true;
  }

  // Moves everything out; the vectors given keep their memory for the next time.
  void take(std::vector<Given>& taken, std::vector<Gap>& lost) {
    taken.clear(), lost.clear();
    items.swap(taken), gaps.swap(lost);
    held = 0;
  }

 private:
  template <class Start>
  void drop(Start start, std::vector<void*>& gone) {
    auto oldest = std::find_if(items.begin(), items.end(), [](const Given& g) { return g.size > 0; });
    const Given lost = *oldest;
    gone.push_back(lost.item);
    held -= lost.size;
    items.erase(oldest);
    if (lost.length < 0) return;
    dropped += lost.length;
    const std::int64_t from = start(lost.item);
    if (!gaps.empty() && gaps.back().stop == from)
      gaps.back().stop = from + lost.length;
    else
      gaps.push_back({from, from + lost.length});
    for (Given& next : items)
      if (next.length >= 0) {
        next.after_gap = true;
        return;
      }
    mark_ = true;  // the next chunk that comes
  }
};

struct Hop {
  void* hop;
  std::int64_t arrival_ns, ready_ns, deadline_ns;
  void* notes;  // called once it was answered, or nullptr
  bool discont;
};

// Hops in order; grows, and never gives memory back.
class Hops {
 public:
  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }
  const Hop* data() const { return ring_.data(); }
  Hop& front() { return ring_[first_]; }
  const Hop& front() const { return ring_[first_]; }
  Hop& back() { return (*this)[count_ - 1]; }
  Hop& operator[](std::size_t i) { return ring_[(first_ + i) & (ring_.size() - 1)]; }
  const Hop& operator[](std::size_t i) const { return ring_[(first_ + i) & (ring_.size() - 1)]; }

  void push(const Hop& hop) {
    if (count_ == ring_.size()) grow();
    ring_[(first_ + count_++) & (ring_.size() - 1)] = hop;
  }
  Hop pop() {
    const Hop hop = front();
    first_ = (first_ + 1) & (ring_.size() - 1);
    if (--count_ == 0) first_ = 0;  // the same line of memory again, and not the next one
    return hop;
  }

 private:
  void grow() {
    std::vector<Hop> wider(ring_.empty() ? 2 : 2 * ring_.size());
    for (std::size_t i = 0; i < count_; ++i) wider[i] = (*this)[i];
    ring_.swap(wider), first_ = 0;
  }

  std::vector<Hop> ring_;  // a power of two
  std::size_t first_ = 0, count_ = 0;
};

// The last `kKept` times in us, oldest first; older ones fall out.
class Times {
 public:
  static constexpr std::size_t kKept = 1024;
  std::int64_t count = 0;

  void add(std::int64_t us) {
    if (values_.size() < kKept)
      values_.push_back(us);
    else
      values_[static_cast<std::size_t>(count) % kKept] = us;
    ++count;
  }
  std::size_t size() const { return values_.size(); }
  const std::int64_t* end() const { return values_.data() + values_.size(); }
  std::int64_t operator[](std::size_t i) const {
    return values_[values_.size() < kKept ? i : (static_cast<std::size_t>(count) + i) % kKept];
  }

 private:
  std::vector<std::int64_t> values_;
};

// Rounded down, as Python does it.
inline std::int64_t whole_us(std::int64_t ns) { return ns / 1000 - (ns % 1000 < 0); }

}  // namespace ossicle::engine
