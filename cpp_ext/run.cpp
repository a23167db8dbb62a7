// Runs of the step executor: a plan bound to a number of streams, and its steps.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "isas.hpp"
#include "native.hpp"
#include "table.hpp"

namespace ossicle {
#define OSSICLE_DECLARE(isa) \
  namespace isa_##isa {      \
  extern const native::StepTable step_functions; \
  }
OSSICLE_EACH_ISA(OSSICLE_DECLARE)
}  // namespace ossicle

namespace ossicle::native {

const StepTable& step_table() {
#define OSSICLE_STEPS(isa) &isa_##isa::step_functions,
  static const StepTable* const known[] = {OSSICLE_EACH_ISA(OSSICLE_STEPS)};
  const char* name = table().name;
  for (const StepTable* t : known)
    if (!std::strcmp(t->name, name)) return *t;
  return *known[0];
}

namespace {

void need(bool fine, const char* what) {
  if (!fine) throw std::invalid_argument(what);
}

}  // namespace

Run::Run(const Plan& plan, std::int64_t streams, const Outside& outside) : plan_(plan), streams_(streams) {
  need(plan.sealed_, "the plan is not sealed");
  need(streams >= 1 && streams <= kMostStreams, "the number of streams cannot be");
  need(plan.arena_ <= std::numeric_limits<std::int64_t>::max() / (streams * 8), "too much scratch");
  arena_ = Array<float>(plan.arena_ * streams + 16);
  poison();
  for (int side = 0; side < 2; ++side)
    for (const Buffer& b : plan.buffers_) {
      const auto pick = [&](const std::vector<float*>& from) {
        need(b.place < static_cast<std::int64_t>(from.size()) && from[b.place], "an array is missing");
        return from[b.place];
      };
      switch (b.home) {
        case Home::constant: base_[side].push_back(const_cast<float*>(plan.constants_[b.place].get())); break;
        case Home::scratch: base_[side].push_back(arena_.get() + b.place * streams); break;
        case Home::state_in: base_[side].push_back(pick(outside.states[side])); break;
        case Home::state_out: base_[side].push_back(pick(outside.states[side ^ 1])); break;
        case Home::input: base_[side].push_back(pick(outside.inputs)); break;
        case Home::output: base_[side].push_back(pick(outside.outputs)); break;
      }
    }
  steps_ = plan.steps_;
  for (const MapStep& s : plan.maps_) bind(s);
  for (const GemmStep& s : plan.gemms_) bind(s);
  for (const TapsStep& s : plan.taps_) bind(s);
  for (const RowStep& s : plan.rows_) bind(s);
  for (const ConvertStep& s : plan.converts_) bind(s);
  std::size_t most = 1;
  for (const BoundGemm& g : gemms_) most = std::max(most, g.at.size() * g.rows);
  pointers_ = Array<float*>(most);
}

void Run::poison() { std::fill_n(arena_.get(), arena_.size(), std::numeric_limits<float>::quiet_NaN()); }

std::int64_t Run::stream_stride(int buffer) const {
  const Buffer& b = plan_.buffers_[buffer];
  return b.home == Home::constant ? 0 : b.size;
}

// The index space of `dims` axes and the streams, with as few loops as the strides allow. Sorted: the order of visits is
// free, so that the first view is walked in order.
Run::Loop Run::collapse(const std::vector<const View*>& views, int dims, bool sorted) const {
  struct Axis {
    std::int64_t count;
    std::array<std::int64_t, 4> stride{};
  };
  std::vector<Axis> axes;
  Axis streams{streams_, {}};
  for (std::size_t i = 0; i < views.size(); ++i) streams.stride[i] = stream_stride(views[i]->buffer);
  axes.push_back(streams);
  for (int d = 0; d < dims; ++d) {
    Axis axis{views[0]->shape[d], {}};
    for (std::size_t i = 0; i < views.size(); ++i) axis.stride[i] = views[i]->stride[d];
    axes.push_back(axis);
  }
  std::erase_if(axes, [](const Axis& a) { return a.count == 1; });
  if (sorted)
    std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride[0] > b.stride[0]; });
  std::vector<Axis> few;
  for (const Axis& axis : axes) {
    bool fits = !few.empty();
    for (std::size_t i = 0; fits && i < views.size(); ++i) fits = few.back().stride[i] == axis.stride[i] * axis.count;
    if (fits) few.back().count *= axis.count, few.back().stride = axis.stride;
    else few.push_back(axis);
  }
  Loop loop;
  if (few.empty()) return loop;
  loop.inner = few.back().count;
  loop.inner_stride = few.back().stride;
  few.pop_back();
  loop.depth = static_cast<int>(few.size());
  for (int i = 0; i < loop.depth; ++i) loop.count[i] = few[i].count, loop.stride[i] = few[i].stride;
  return loop;
}

void Run::bind(const MapStep& s) {
  std::vector<const View*> views{&s.out, &s.a};
  BoundMap made{s.op, s.p, s.q, {}, {}};
  made.at[0] = {s.out.buffer, s.out.offset};
  made.at[1] = {s.a.buffer, s.a.offset};
  if (s.b.buffer >= 0) {
    views.push_back(&s.b);
    made.at[2] = {s.b.buffer, s.b.offset};
  }
  made.loop = collapse(views, s.out.rank, true);
  maps_.push_back(made);
}

void Run::bind(const GemmStep& s) {
  BoundGemm made{&s, streams_, {}, {}};
  const int rows = s.out.rank - 1;
  for (int d = 0; d < rows; ++d) made.rows *= s.out.shape[d];
  std::vector<const View*> views;
  for (const View& p : s.parts) views.push_back(&p);
  views.push_back(&s.out);
  if (s.residual.buffer >= 0) views.push_back(&s.residual);
  for (const View* v : views) {
    made.at.push_back({v->buffer, v->offset});
    made.loops.push_back(collapse({v}, rows, false));
  }
  gemms_.push_back(std::move(made));
}

void Run::bind(const TapsStep& s) {
  View x = s.x;  // of the first tap
  for (int d = 1; d < s.x.rank; ++d) x.shape[d - 1] = s.x.shape[d], x.stride[d - 1] = s.x.stride[d];
  x.rank = s.x.rank - 1;
  BoundTaps made{};
  made.step = &s;
  made.at[0] = {s.out.buffer, s.out.offset};
  made.at[1] = {x.buffer, x.offset};
  made.loop = collapse({&s.out, &x}, s.out.rank - 1, false);
  made.w = base_[0][s.w.buffer] + s.w.offset;
  made.bias = base_[0][s.bias.buffer] + s.bias.offset;
  made.w_stride = s.w.stride[0], made.taps = s.x.shape[0], made.tap_stride = s.x.stride[0];
  made.width = s.out.shape[s.out.rank - 1];
  taps_.push_back(made);
}

void Run::bind(const RowStep& s) {
  BoundRow made{};
  made.op = s.op, made.p = s.p;
  made.at[0] = {s.out.buffer, s.out.offset};
  made.at[1] = {s.x.buffer, s.x.offset};
  made.loop = collapse({&s.out, &s.x}, s.x.rank - 1, false);
  made.scale = s.scale.buffer < 0 ? nullptr : base_[0][s.scale.buffer] + s.scale.offset;
  made.bias = s.bias.buffer < 0 ? nullptr : base_[0][s.bias.buffer] + s.bias.offset;
  made.width = s.x.shape[s.x.rank - 1], made.x_stride = s.x.stride[s.x.rank - 1];
  rows_.push_back(made);
}

void Run::bind(const ConvertStep& s) {
  BoundConvert made{};
  made.at[0] = {s.out.buffer, s.out.offset};
  made.at[1] = {s.x.buffer, s.x.offset};
  const Item out = plan_.buffers_[s.out.buffer].item;
  made.widens = out == Item::f32;
  made.item = made.widens ? plan_.buffers_[s.x.buffer].item : out;
  made.loop = collapse({&s.out, &s.x}, s.out.rank, true);
  converts_.push_back(made);
}

namespace {

// Bytes and floats from any stride; of the same values, whole numbers in the bytes' range.
template <class To, class From>
void convert(const From* x, std::int64_t xs, To* out, std::int64_t os, std::int64_t n) {
  if (xs == 1 && os == 1)
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<To>(static_cast<std::int32_t>(x[i]));
  else
    for (std::int64_t i = 0; i < n; ++i) out[i * os] = static_cast<To>(static_cast<std::int32_t>(x[i * xs]));
}

// Calls f(offsets) for every index of the loop's outer axes.
template <class L, class F>
void visit(const L& loop, F f) {
  std::array<std::int64_t, kRank + 1> index{};
  std::array<std::int64_t, 4> offset{};
  for (;;) {
    f(offset);
    int d = loop.depth - 1;
    for (; d >= 0; --d) {
      for (int i = 0; i < 4; ++i) offset[i] += loop.stride[d][i];
      if (++index[d] < loop.count[d]) break;
      for (int i = 0; i < 4; ++i) offset[i] -= loop.stride[d][i] * loop.count[d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

}  // namespace

void Run::run(const BoundMap& m, float* const* base) const {
  const auto run = step_table().map;
  float* const out = base[m.at[0].buffer] + m.at[0].offset;
  const float* const a = base[m.at[1].buffer] + m.at[1].offset;
  const float* const b = m.at[2].buffer < 0 ? nullptr : base[m.at[2].buffer] + m.at[2].offset;
  const auto& s = m.loop.inner_stride;
  visit(m.loop, [&](const auto& o) {
    run(m.op, m.p, m.q, a + o[1], s[1], b ? b + o[2] : nullptr, s[2], out + o[0], s[0], m.loop.inner);
  });
}

void Run::run(const BoundGemm& m, float* const* base) {
  const GemmStep& s = *m.step;
  const PackedPanels& w = plan_.weights_[s.weights];
  for (std::size_t i = 0; i < m.at.size(); ++i) {
    float* const first = base[m.at[i].buffer] + m.at[i].offset;
    float** to = pointers_.get() + i * m.rows;
    const Loop& loop = m.loops[i];
    visit(loop, [&](const auto& o) {
      float* p = first + o[0];
      for (std::int64_t j = 0; j < loop.inner; ++j, p += loop.inner_stride[0]) *to++ = p;
    });
  }
  const std::int64_t parts = static_cast<std::int64_t>(s.parts.size());
  float* const* const out = pointers_.get() + parts * m.rows;
  const StepTable& table = step_table();
  const bool fixed = w.scale != 0 && m.rows <= table.fixed_rows;
  const unsigned char* const pool = plan_.pool_.get();
  table.gemm({pointers_.get(), w.widths.data(), parts, m.rows, w.K, w.N, pool + (fixed ? w.fixed : w.data),
              fixed ? Packing::fixed24 : w.half ? Packing::half : Packing::whole,
              fixed ? reinterpret_cast<const float*>(pool + w.scale) : nullptr,
              reinterpret_cast<const float*>(pool + w.bias),
              s.act, s.alpha, out, s.residual.buffer < 0 ? nullptr : out + m.rows});
}

void Run::run(const BoundTaps& m, float* const* base) {
  const auto run = step_table().taps;
  float* const out = base[m.at[0].buffer] + m.at[0].offset;
  const float* const x = base[m.at[1].buffer] + m.at[1].offset;
  visit(m.loop, [&](const auto& o) {
    for (std::int64_t j = 0; j < m.loop.inner; ++j)
      run(x + o[1] + j * m.loop.inner_stride[1], m.tap_stride, m.taps, m.w, m.w_stride, m.bias, m.step->act,
          m.step->alpha, m.width, out + o[0] + j * m.loop.inner_stride[0]);
  });
}

void Run::run(const BoundRow& m, float* const* base) const {
  const auto run = step_table().row;
  float* const out = base[m.at[0].buffer] + m.at[0].offset;
  const float* const x = base[m.at[1].buffer] + m.at[1].offset;
  visit(m.loop, [&](const auto& o) {
    for (std::int64_t j = 0; j < m.loop.inner; ++j)
      run(m.op, m.p, x + o[1] + j * m.loop.inner_stride[1], m.x_stride, m.scale, m.bias, m.width,
          out + o[0] + j * m.loop.inner_stride[0]);
  });
}

void Run::run(const BoundConvert& m, float* const* base) const {
  float* const out = base[m.at[0].buffer];
  float* const x = base[m.at[1].buffer];
  const auto& s = m.loop.inner_stride;
  const auto go = [&](auto* to, const auto* from) {
    visit(m.loop, [&](const auto& o) {
      convert(from + m.at[1].offset + o[1], s[1], to + m.at[0].offset + o[0], s[0], m.loop.inner);
    });
  };
  const bool plain = m.item == Item::u8;
  if (m.widens) plain ? go(out, reinterpret_cast<const std::uint8_t*>(x)) : go(out, reinterpret_cast<const std::int8_t*>(x));
  else plain ? go(reinterpret_cast<std::uint8_t*>(out), x) : go(reinterpret_cast<std::int8_t*>(out), x);
}

void Run::run(const Step& s, float* const* base) {
  switch (s.kind) {
    case Kind::map: return run(maps_[s.at], base);
    case Kind::gemm: return run(gemms_[s.at], base);
    case Kind::taps: return run(taps_[s.at], base);
    case Kind::row: return run(rows_[s.at], base);
    case Kind::convert: return run(converts_[s.at], base);
  }
}

void Run::step(int side) {
  float* const* const base = base_[side & 1].data();
  for (const Step& s : steps_) run(s, base);
}

std::vector<std::pair<Kind, std::int64_t>> Run::profile(int side) {
  using Clock = std::chrono::steady_clock;
  float* const* const base = base_[side & 1].data();
  std::vector<std::pair<Kind, std::int64_t>> spent;
  for (const Step& s : steps_) {
    const auto begin = Clock::now();
    run(s, base);
    spent.emplace_back(s.kind, std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count());
  }
  return spent;
}

}  // namespace ossicle::native
