// A whole step graph as one straight line over planned memory: no allocation, no lock, no Python in a step.
//
// A plan is written once per graph: buffers (a size per stream each), then steps over strided views of them. Every view
// is checked against its buffer when it is added, so that no plan, however wrong, reaches other memory. A run is a plan
// bound to a number of streams and to the arrays outside: inputs, outputs, and two sides of states that take turns.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"
#include "steptable.hpp"

namespace ossicle::native {

constexpr int kRank = 6;                              // dimensions of a view, without the streams
constexpr std::int64_t kMostFloats = 1ll << 31;       // of one buffer for one stream
constexpr std::int64_t kMostStreams = 1 << 16;

enum class Home : int { constant, scratch, state_in, state_out, input, output };

enum class Item : int { f32, u8, i8 };  // bytes only outside: steps convert them

struct Buffer {
  Home home;
  std::int64_t size;   // items of one stream; of all streams for a constant
  std::int64_t place;  // scratch: floats before it in the arena; outside: which array of its kind
  Item item = Item::f32;
};

// Strided floats of one stream.
struct View {
  int buffer = -1;
  std::int64_t offset = 0;
  int rank = 0;
  std::array<std::int64_t, kRank> shape{}, stride{};
};

// [K, N] in panels of 64 columns, [N / 64][K][64], the last one narrower by sixteens; bf16 lie in pairs of K.
struct PackedPanels {
  std::int64_t K, N;
  bool half;
  std::vector<std::int64_t> widths;  // of the parts of a row
  std::size_t data, bias;            // where they begin in the pool, in bytes; bias [N rounded up to 16]
  std::size_t fixed = 0, scale = 0;  // the same for the weights again, in 24 bits, where a product of few rows has them
};

struct MapStep {
  Map op;
  float p, q;
  View out, a, b;  // b.buffer < 0: one operand
};
struct GemmStep {
  std::vector<View> parts;  // [rows..., width] each; their widths add up to K
  View out, residual;       // [rows..., N]; residual.buffer < 0: none
  Act act;
  float alpha;
  std::size_t weights;
};
struct TapsStep {  // out[r, c] = act(bias[c] + sum_k w[k, c] x[k, r, c])
  View out, x, w, bias;  // x [K, rows..., C], w [K, C], bias [C]
  Act act;
  float alpha;
};
struct RowStep {  // one row in, one row or one number out
  Row op;
  float p;
  View out, x, scale, bias;
};

struct ConvertStep {  // between a buffer of bytes and one of floats, that hold whole numbers in range
  View out, x;
};

enum class Kind : int { map, gemm, taps, row, convert };
struct Step {
  Kind kind;
  std::size_t at;
};

class Plan {
 public:
  // All adders throw std::invalid_argument with the reason.
  int add_buffer(Home home, std::int64_t size, std::int64_t place, Item item = Item::f32);
  int add_constant(const float* values, std::int64_t size);
  std::size_t add_weights(const float* rows, std::int64_t K, std::int64_t N, const float* bias,
                          const std::vector<std::int64_t>& widths, bool half);
  void add(MapStep step);
  void add(GemmStep step);
  void add(TapsStep step);
  void add(RowStep step);
  void add(ConvertStep step);

  // No more is added; all weights now lie together, in the order of their use. Where fp32 weights are more than a second
  // cache holds, those of 24 bits stand behind them, and both are the same numbers: a product of few rows waits for its
  // weights, one of many for its arithmetic, and neither may differ from the other.
  void seal();

  const std::vector<Buffer>& buffers() const { return buffers_; }
  std::int64_t arena() const { return arena_; }  // floats of scratch for one stream
  std::size_t weight_bytes() const;

 private:
  friend class Run;
  void pack_again();
  void check(const View& v, const char* what, bool written, bool bytes = false) const;

  std::vector<Buffer> buffers_;
  std::vector<Array<float>> constants_;
  std::vector<PackedPanels> weights_;
  std::vector<unsigned char> packed_;  // until sealed
  Array<unsigned char> pool_;
  std::vector<Step> steps_;
  std::vector<MapStep> maps_;
  std::vector<GemmStep> gemms_;
  std::vector<TapsStep> taps_;
  std::vector<RowStep> rows_;
  std::vector<ConvertStep> converts_;
  std::int64_t arena_ = 0;
  bool sealed_ = false;
};

// Where the arrays outside lie: one pointer each, for `streams` streams in order.
struct Outside {
  std::vector<float*> inputs, outputs;
  std::array<std::vector<float*>, 2> states;  // two sides
};

class Run {
 public:
  // `plan`, sealed, and the arrays must outlive the run.
  Run(const Plan& plan, std::int64_t streams, const Outside& outside);
  // Reads the states of `side` (0 or 1) and writes those of the other.
  void step(int side);
  void poison();  // scratch becomes NaN, as tests want it
  // One step with the nanoseconds of each of the plan's steps, in order.
  std::vector<std::pair<Kind, std::int64_t>> profile(int side);

 private:
  struct Loop {  // dimensions outside the innermost, largest first
    int depth = 0;
    std::array<std::int64_t, kRank + 1> count{};
    std::array<std::array<std::int64_t, 4>, kRank + 1> stride{};
    std::int64_t inner = 1;
    std::array<std::int64_t, 4> inner_stride{};
  };
  struct At {
    int buffer = -1;
    std::int64_t offset = 0;
  };
  struct BoundMap {
    Map op;
    float p, q;
    std::array<At, 3> at;
    Loop loop;
  };
  struct BoundGemm {
    const GemmStep* step;
    std::int64_t rows;
    std::vector<At> at;      // parts, then out, then residual
    std::vector<Loop> loops;  // one each: over rows only
  };
  struct BoundTaps {
    const TapsStep* step;
    std::array<At, 2> at;  // out, x
    Loop loop;             // over rows: out, x
    const float *w, *bias;
    std::int64_t w_stride, taps, tap_stride, width;
  };
  struct BoundRow {
    Row op;
    float p;
    std::array<At, 2> at;
    Loop loop;  // rows: out, x
    const float *scale, *bias;
    std::int64_t width, x_stride;
  };

  struct BoundConvert {
    std::array<At, 2> at;  // out, x
    Item item;
    bool widens;
    Loop loop;
  };

  std::int64_t stream_stride(int buffer) const;
  Loop collapse(const std::vector<const View*>& views, int dims, bool keep_inner) const;
  void bind(const MapStep&);
  void bind(const GemmStep&);
  void bind(const TapsStep&);
  void bind(const RowStep&);
  void bind(const ConvertStep&);
  void run(const BoundMap&, float* const* base) const;
  void run(const BoundGemm&, float* const* base);
  void run(const BoundTaps&, float* const* base);
  void run(const BoundRow&, float* const* base) const;
  void run(const BoundConvert&, float* const* base) const;
  void run(const Step&, float* const* base);

  const Plan& plan_;
  std::int64_t streams_;
  Array<float> arena_;
  std::array<std::vector<float*>, 2> base_;  // of every buffer, by side
  std::vector<Step> steps_;
  std::vector<BoundMap> maps_;
  std::vector<BoundGemm> gemms_;
  std::vector<BoundTaps> taps_;
  std::vector<BoundRow> rows_;
  std::vector<BoundConvert> converts_;
  Array<float*> pointers_;
};

}  // namespace ossicle::native
