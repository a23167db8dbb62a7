// A lane's parts against plain models of them: what is kept, dropped, refused and remembered.
#include "lane.hpp"

#include "check.hpp"

#include <deque>

using namespace ossicle::engine;

namespace {

struct Chunk {
  std::int64_t start, length;
};

std::int64_t start_of(void* chunk) { return static_cast<Chunk*>(chunk)->start; }

// Whatever is pushed and taken, every sample is delivered, waiting or in a gap, once and in order.
void account(std::mt19937& rng, bool live, std::int64_t origin) {
  std::deque<Chunk> chunks;
  Inbox inbox;
  inbox.limit = 100, inbox.live = live;
  std::int64_t at = origin, seen = origin, dropped = 0;
  std::vector<void*> gone;
  std::vector<Given> items;
  std::vector<Gap> gaps;
  for (int turn = 0; turn < 2000; ++turn) {
    if (rng() % 4) {
      chunks.push_back({at, static_cast<std::int64_t>(rng() % 60)});
      const std::int64_t length = chunks.back().length, before = inbox.held;
      const std::int64_t size = std::max<std::int64_t>(length, 1);
      const bool done = inbox.put({&chunks.back(), turn, size, length, false}, start_of, gone);
      CHECK(done || (!live && before + size > inbox.limit));
      if (done) at += length;
      CHECK(!before || inbox.held <= inbox.limit || inbox.items.size() == 1);
      continue;
    }
    if (rng() % 3 == 0) CHECK(inbox.put({nullptr, turn, 0, -1, false}, start_of, gone));  // a word is never refused
    inbox.take(items, gaps);
    CHECK(inbox.held == 0 && !inbox.waiting());
    std::size_t next = 0;
    for (const Given& given : items) {
      if (!given.item) continue;
      const Chunk chunk = *static_cast<Chunk*>(given.item);
      CHECK(!given.after_gap || live);
      for (; next < gaps.size() && gaps[next].start == seen && seen != chunk.start; ++next) {
        CHECK(gaps[next].stop >= gaps[next].start);
        dropped += gaps[next].stop - gaps[next].start, seen = gaps[next].stop;
      }
      CHECK(chunk.start == seen);
      seen += chunk.length;
    }
    for (; next < gaps.size(); ++next) {  // nothing came after them, or they were empty
      CHECK(gaps[next].start == seen || gaps[next].start == gaps[next].stop);
      dropped += gaps[next].stop - gaps[next].start, seen = std::max(seen, gaps[next].stop);
    }
    CHECK(seen == at && dropped == inbox.dropped);
  }
  CHECK(live || (gone.empty() && !dropped));
}

void hops(std::mt19937& rng) {
  Hops ring;
  std::deque<std::int64_t> model;
  for (std::int64_t turn = 0; turn < 5000; ++turn) {
    if (rng() % 5 < (turn < 2500 ? 3u : 2u)) {
      ring.push({nullptr, turn, 0, 0, nullptr, false});
      model.push_back(turn);
    } else if (!model.empty()) {
      CHECK(ring.pop().arrival_ns == model.front());
      model.pop_front();
    }
    CHECK(ring.size() == model.size() && ring.empty() == model.empty());
    for (std::size_t i = 0; i < model.size(); ++i) CHECK(ring[i].arrival_ns == model[i]);
    if (!model.empty()) CHECK(ring.front().arrival_ns == model.front() && ring.back().arrival_ns == model.back());
  }
}

void times() {
  Times kept;
  for (std::int64_t us = 0; us < 3000; ++us) {
    CHECK(kept.count == us && kept.size() == std::min<std::size_t>(us, Times::kKept));
    for (std::size_t i = 0; i < kept.size(); i += 97)
      CHECK(kept[i] == us - static_cast<std::int64_t>(kept.size()) + static_cast<std::int64_t>(i));
    kept.add(us);
  }
}

}  // namespace

int main() {
  std::mt19937 rng(std::random_device{}());
  for (const bool live : {true, false})
    for (const std::int64_t origin : {std::int64_t{0}, (std::int64_t{1} << 31) - 100, std::int64_t{1} << 53})
      account(rng, live, origin);
  hops(rng);
  times();
  CHECK(whole_us(1999) == 1 && whole_us(0) == 0 && whole_us(-1) == -1 && whole_us(-1000) == -1);
}
