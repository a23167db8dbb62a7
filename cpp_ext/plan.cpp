// Plans of the step executor: every view is checked as it is added, weights are packed.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "native.hpp"
#include "weights.hpp"

namespace ossicle::native {

namespace {

constexpr std::int64_t kPanel = 64, kGroup = 16;
constexpr std::size_t kNear = 1 << 20;  // bytes of fp32 weights that a second cache holds, with all else

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }
void need(bool fine, const char* what) {
  if (!fine) refuse(what);
}

bool same_shape(const View& a, const View& b, int dims, int skip_b = 0) {
  for (int i = 0; i < dims; ++i)
    if (a.shape[i] != b.shape[i + skip_b]) return false;
  return true;
}

bool inner_unit(const View& v) { return v.rank > 0 && (v.shape[v.rank - 1] == 1 || v.stride[v.rank - 1] == 1); }

// [steps][wide] of a panel, then the next panel: calls f(column, where) for every column and step.
template <class F>
void each_weight(std::int64_t steps, std::int64_t N, F f) {
  const std::int64_t Np = (N + kGroup - 1) / kGroup * kGroup;
  for (std::int64_t column = 0; column < N; ++column) {
    const std::int64_t panel = column / kPanel, wide = std::min(kPanel, Np - panel * kPanel);
    const std::int64_t first = panel * kPanel * steps + column % kPanel;
    for (std::int64_t step = 0; step < steps; ++step) f(column, first + step * wide);
  }
}

}  // namespace

int Plan::add_buffer(Home home, std::int64_t size, std::int64_t place, Item item) {
  need(!sealed_, "the plan is sealed");
  need(home != Home::constant && home <= Home::output, "a buffer is scratch, a state, an input or an output");
  need(size > 0 && size <= kMostFloats, "a buffer's size cannot be");
  need(place >= 0 && place <= kMostFloats, "a buffer's place cannot be");
  need(buffers_.size() < 1u << 20, "too many buffers");
  need(item == Item::f32 || (home != Home::scratch && item <= Item::i8), "bytes lie only outside");
  buffers_.push_back({home, size, place, item});
  if (home == Home::scratch) arena_ = std::max(arena_, place + size);
  return static_cast<int>(buffers_.size()) - 1;
}

int Plan::add_constant(const float* values, std::int64_t size) {
  need(!sealed_, "the plan is sealed");
  need(size > 0 && size <= kMostFloats, "a constant's size cannot be");
  Array<float> held(size);
  std::copy_n(values, size, held.get());
  constants_.push_back(std::move(held));
  buffers_.push_back({Home::constant, size, static_cast<std::int64_t>(constants_.size()) - 1});
  return static_cast<int>(buffers_.size()) - 1;
}

std::size_t Plan::add_weights(const float* rows, std::int64_t K, std::int64_t N, const float* bias,
                              const std::vector<std::int64_t>& widths, bool half) {
  need(!sealed_, "the plan is sealed");
  need(K > 0 && N > 0 && K <= kMostFloats && N <= kMostFloats && K * N <= kMostFloats, "a matrix cannot have this size");
  std::int64_t sum = 0, steps = 0;
  for (const std::int64_t w : widths) {
    need(w > 0 && w <= K - sum, "the parts do not add up to K");
    sum += w;
    steps += half ? (w + 1) / 2 : w;
  }
  need(sum == K, "the parts do not add up to K");
  const std::int64_t Np = (N + kGroup - 1) / kGroup * kGroup;
  const std::size_t bytes = steps * Np * 4;
  PackedPanels made{K, N, half, widths, packed_.size(), packed_.size() + bytes};
  packed_.resize(made.bias + Np * sizeof(float));
  if (bias) std::memcpy(packed_.data() + made.bias, bias, N * sizeof(float));
  float* const whole = reinterpret_cast<float*>(packed_.data() + made.data);
  std::uint16_t* const halves = reinterpret_cast<std::uint16_t*>(packed_.data() + made.data);
  for (std::int64_t column = 0; column < N; ++column) {
    const std::int64_t panel = column / kPanel, wide = std::min(kPanel, Np - panel * kPanel);
    const std::int64_t base = panel * kPanel * steps, at = column % kPanel;
    std::int64_t k = 0, step = 0;
    for (const std::int64_t w : widths)
      for (std::int64_t c = 0; c < w; ++c, ++k) {
        const float value = rows[k * N + column];
        if (half) {
          halves[2 * (base + step * wide + at) + c % 2] = to_bf16(value);
          step += c % 2 == 1 || c + 1 == w;
        } else {
          whole[base + step++ * wide + at] = value;
        }
      }
  }
  weights_.push_back(std::move(made));
  return weights_.size() - 1;
}

std::size_t Plan::weight_bytes() const {
  std::size_t n = packed_.size() + pool_.size();
  for (const auto& c : constants_) n += c.size() * sizeof(float);
  return n;
}

void Plan::pack_again() {
  for (PackedPanels& w : weights_) {
    if (w.half) continue;
    const std::int64_t Np = (w.N + kGroup - 1) / kGroup * kGroup;
    w.fixed = packed_.size(), w.scale = w.fixed + (3 * w.K * Np + 63) / 64 * 64;
    packed_.resize(w.scale + Np * sizeof(float));
    float* const whole = reinterpret_cast<float*>(packed_.data() + w.data);
    std::vector<Fixed24> columns(Np);
    each_weight(w.K, w.N, [&](std::int64_t column, std::int64_t at) { columns[column].see(whole[at]); });
    each_weight(w.K, w.N, [&](std::int64_t column, std::int64_t at) {
      columns[column].write(whole[at], packed_.data() + w.fixed + 3 * at);
      whole[at] = columns[column].kept(whole[at]);
    });
    float* const scale = reinterpret_cast<float*>(packed_.data() + w.scale);
    for (std::int64_t column = 0; column < Np; ++column) scale[column] = columns[column].scale();
  }
}

void Plan::seal() {
  if (sealed_) return;
  std::size_t whole = 0;
  for (const PackedPanels& w : weights_) whole += w.half ? 0 : w.K * w.N * sizeof(float);
  if (whole > kNear) pack_again();
  pool_ = Array<unsigned char>(packed_.size() + 4096);  // products ask for weights a little ahead
  if (!packed_.empty()) std::memcpy(pool_.get(), packed_.data(), packed_.size());
  packed_ = {};
  sealed_ = true;
}

void Plan::check(const View& v, const char* what, bool written, bool bytes) const {
  const std::string name = what;
  if (sealed_) refuse(name + ": the plan is sealed");
  if (v.buffer < 0 || v.buffer >= static_cast<int>(buffers_.size())) refuse(name + ": no such buffer");
  const Buffer& b = buffers_[v.buffer];
  if (bytes != (b.item != Item::f32)) refuse(name + (bytes ? ": must be bytes" : ": must be floats"));
  if (written && (b.home == Home::constant || b.home == Home::input || b.home == Home::state_in))
    refuse(name + ": this buffer is not written by steps");
  if (v.rank < 0 || v.rank > kRank) refuse(name + ": rank out of range");
  if (v.offset < 0 || v.offset >= b.size) refuse(name + ": offset outside the buffer");
  std::int64_t last = v.offset;
  for (int i = 0; i < v.rank; ++i) {
    if (v.shape[i] < 1 || v.shape[i] > kMostFloats || v.stride[i] < 0 || v.stride[i] > kMostFloats)
      refuse(name + ": shape or stride out of range");
    if (v.stride[i] && v.shape[i] - 1 > (b.size - 1 - last) / v.stride[i]) refuse(name + ": reaches outside the buffer");
    last += (v.shape[i] - 1) * v.stride[i];
    if (written && v.shape[i] > 1 && v.stride[i] == 0) refuse(name + ": written twice in one place");
  }
}

void Plan::add(MapStep step) {
  need(step.op >= Map::copy && step.op < Map::count, "no such operator");
  check(step.out, "map out", true);
  check(step.a, "map a", false);
  need(step.a.rank == step.out.rank && same_shape(step.out, step.a, step.out.rank), "map: shapes differ");
  const bool two = static_cast<int>(step.op) >= kFirstOfTwo;
  need(two == (step.b.buffer >= 0), "map: wrong number of operands");
  if (two) {
    check(step.b, "map b", false);
    need(step.b.rank == step.out.rank && same_shape(step.out, step.b, step.out.rank), "map: shapes differ");
  }
  steps_.push_back({Kind::map, maps_.size()});
  maps_.push_back(step);
}

void Plan::add(GemmStep step) {
  need(step.weights < weights_.size(), "gemm: no such weights");
  const PackedPanels& w = weights_[step.weights];
  check(step.out, "gemm out", true);
  need(step.out.rank >= 1 && inner_unit(step.out) && step.out.shape[step.out.rank - 1] == w.N,
       "gemm: out must be [rows, N], the last contiguous");
  need(step.parts.size() == w.widths.size(), "gemm: parts and weights differ");
  const int rows = step.out.rank - 1;
  for (std::size_t i = 0; i < step.parts.size(); ++i) {
    const View& p = step.parts[i];
    check(p, "gemm part", false);
    need(p.rank == step.out.rank && same_shape(step.out, p, rows) && p.shape[rows] == w.widths[i] && inner_unit(p),
         "gemm: a part must be [rows, width], the last contiguous");
  }
  need(step.act >= Act::none && step.act < Act::count, "no such activation");
  if (step.residual.buffer >= 0) {
    check(step.residual, "gemm residual", false);
    need(step.residual.rank == step.out.rank && same_shape(step.out, step.residual, step.out.rank) &&
             inner_unit(step.residual),
         "gemm: the residual must be like out");
  }
  steps_.push_back({Kind::gemm, gemms_.size()});
  gemms_.push_back(std::move(step));
}

void Plan::add(TapsStep step) {
  check(step.out, "taps out", true);
  check(step.x, "taps x", false);
  check(step.w, "taps w", false);
  check(step.bias, "taps bias", false);
  const View &o = step.out, &x = step.x;
  need(o.rank >= 1 && x.rank == o.rank + 1 && same_shape(o, x, o.rank, 1) && inner_unit(o) && inner_unit(x),
       "taps: x must be [K, rows, C] for out [rows, C]");
  const std::int64_t C = o.shape[o.rank - 1];
  need(step.w.rank == 2 && step.w.shape[0] == x.shape[0] && step.w.shape[1] == C && inner_unit(step.w) &&
           step.bias.rank == 1 && step.bias.shape[0] == C && inner_unit(step.bias) &&
           buffers_[step.w.buffer].home == Home::constant && buffers_[step.bias.buffer].home == Home::constant,
       "taps: w must be a constant [K, C], bias a constant [C]");
  need(step.act >= Act::none && step.act < Act::count, "no such activation");
  steps_.push_back({Kind::taps, taps_.size()});
  taps_.push_back(step);
}

void Plan::add(RowStep step) {
  need(step.op >= Row::sum && step.op < Row::count, "no such operator");
  check(step.out, "row out", true);
  check(step.x, "row x", false);
  const bool wide = static_cast<int>(step.op) >= kFirstOfRow;
  const int rows = step.x.rank - 1;
  need(rows >= 0 && step.out.rank == (wide ? step.x.rank : rows) && same_shape(step.x, step.out, step.out.rank),
       "row: shapes differ");
  if (wide) need(inner_unit(step.x) && inner_unit(step.out), "row: the last axis must be contiguous");
  for (const View* v : {&step.scale, &step.bias})
    if (v->buffer >= 0) {
      check(*v, "row scale or bias", false);
      need(v->rank == 1 && v->shape[0] == step.x.shape[rows] && inner_unit(*v) &&
               buffers_[v->buffer].home == Home::constant,
           "row: scale and bias are constants [n]");
    }
  steps_.push_back({Kind::row, rows_.size()});
  rows_.push_back(step);
}

void Plan::add(ConvertStep step) {
  need(step.out.buffer >= 0 && step.out.buffer < static_cast<int>(buffers_.size()), "convert: no such buffer");
  const bool widens = buffers_[step.out.buffer].item == Item::f32;
  check(step.out, "convert out", true, !widens);
  check(step.x, "convert x", false, widens);
  need(step.x.rank == step.out.rank && same_shape(step.out, step.x, step.out.rank), "convert: shapes differ");
  steps_.push_back({Kind::convert, converts_.size()});
  converts_.push_back(step);
}

}  // namespace ossicle::native
