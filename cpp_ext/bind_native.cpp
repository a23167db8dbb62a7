// The step executor in Python: a plan is written step by step, a run is bound to arrays.
#include <chrono>

#include "bind.hpp"
#include "native.hpp"
#include "quantise.hpp"

namespace ossicle {
namespace {
using namespace native;

using Codes = py::array_t<std::int32_t, py::array::c_style>;
// (buffer, offset, shape, strides)
using Place = std::tuple<int, std::int64_t, std::vector<std::int64_t>, std::vector<std::int64_t>>;

View view(const std::optional<Place>& place) {
  View v;
  if (!place) return v;
  const auto& [buffer, offset, shape, stride] = *place;
  need(buffer >= 0, "a view's buffer must not be negative");
  need(shape.size() == stride.size() && shape.size() <= kRank, "a view has at most six axes, with a stride each");
  v.buffer = buffer, v.offset = offset, v.rank = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), v.shape.begin());
  std::copy(stride.begin(), stride.end(), v.stride.begin());
  return v;
}

// A plan with one set of arrays; it keeps both alive.
class Bound {
 public:
  Bound(std::shared_ptr<Plan> plan, std::int64_t streams, py::list inputs, py::list outputs, py::list even, py::list odd)
      : plan_(std::move(plan)), held_(py::make_tuple(inputs, outputs, even, odd)) {
    plan_->seal();
    Outside outside;
    outside.inputs = pointers(inputs, Home::input, streams);
    outside.outputs = pointers(outputs, Home::output, streams);
    outside.states = {pointers(even, Home::state_in, streams), pointers(odd, Home::state_in, streams)};
    py::gil_scoped_release release;  // a batch's scratch may be megabytes
    run_ = std::make_unique<Run>(*plan_, streams, outside);
  }
  void step(int side) {
    bool fine = true;
    {
      py::gil_scoped_release release;
      fine = !before_ || before_->decode();
      if (fine) run_->step(side);
      if (fine && after_) after_->encode();
    }
    need(fine, "a code is below -1 or not below N");
  }
  // Codes [B, K, T] become the vectors [B, T, D] of an input before each step.
  void look_up(std::shared_ptr<PackedBooks> books, const Floats& vectors, const Codes& codes) {
    before_ = quantiser(std::move(books), vectors, codes, std::nullopt);
  }
  // The vectors of an output become codes after each step: of each stream as many layers as `layers` [B] says.
  void search(std::shared_ptr<PackedBooks> books, const Floats& vectors, const Codes& codes,
              const std::optional<Codes>& layers) {
    after_ = quantiser(std::move(books), vectors, codes, layers);
  }
  void poison() { run_->poison(); }
  std::vector<std::pair<int, std::int64_t>> profile(int side) {
    std::vector<std::pair<int, std::int64_t>> found;
    const auto timed = [&](int kind, auto part) {
      const auto begin = std::chrono::steady_clock::now();
      part();
      const auto spent = std::chrono::steady_clock::now() - begin;
      found.emplace_back(kind, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
    };
    if (before_) timed(-2, [&] { before_->decode(); });
    for (const auto& [kind, ns] : run_->profile(side)) found.emplace_back(static_cast<int>(kind), ns);
    if (after_) timed(-1, [&] { after_->encode(); });
    return found;
  }

 private:
  std::unique_ptr<Quantiser> quantiser(std::shared_ptr<PackedBooks> books, const Floats& vectors, const Codes& codes,
                                       const std::optional<Codes>& layers) {
    need(vectors.ndim() == 3 && vectors.shape(2) == books->D(), "vectors must be [B, T, D] with the books' D");
    const std::int64_t B = vectors.shape(0), T = vectors.shape(1), K = codes.ndim() == 3 ? codes.shape(1) : 0;
    need(codes.ndim() == 3 && codes.shape(0) == B && codes.shape(2) == T && codes.writeable() && vectors.writeable(),
         "codes must be [B, K, T] and, like the vectors, writeable");
    need(K >= 1 && K <= books->K(), "K must be from 1 to the number of books");
    need(!layers || layers->size() == B, "layers must be one number a stream");
    held_ = py::make_tuple(held_, vectors, codes, layers);
    return std::make_unique<Quantiser>(std::move(books), const_cast<float*>(vectors.data()),
                                       const_cast<std::int32_t*>(codes.data()), layers ? layers->data() : nullptr, B,
                                       K, T);
  }
  // Every array must be contiguous, writeable, of the item and as large as each buffer that names it.
  std::vector<float*> pointers(const py::list& arrays, Home home, std::int64_t streams) {
    std::vector<float*> found;
    std::vector<std::pair<std::int64_t, Item>> sizes;
    for (const py::handle item : arrays) {
      need(py::isinstance<py::array>(item), "arrays are expected");
      py::array array = py::reinterpret_borrow<py::array>(item);
      const char kind = array.dtype().kind();
      need(array.writeable() && (array.flags() & py::array::c_style) &&
               ((kind == 'f' && array.itemsize() == 4) || ((kind == 'u' || kind == 'i') && array.itemsize() == 1)),
           "arrays must be writeable, float32 or bytes, and C-contiguous");
      found.push_back(static_cast<float*>(array.mutable_data()));
      sizes.emplace_back(array.size(), kind == 'f' ? Item::f32 : kind == 'u' ? Item::u8 : Item::i8);
    }
    for (const Buffer& b : plan_->buffers())
      if (b.home == home || (home == Home::state_in && b.home == Home::state_out))
        need(b.place < static_cast<std::int64_t>(sizes.size()) &&
                 sizes[b.place] == std::pair(b.size * streams, b.item),
             "an array is missing or does not fit its buffer");
    return found;
  }

  std::shared_ptr<Plan> plan_;
  py::tuple held_;
  std::unique_ptr<Run> run_;
  std::unique_ptr<Quantiser> before_, after_;
};

}  // namespace

void bind_native(py::module_& m) {
  py::class_<Plan, std::shared_ptr<Plan>>(m, "StepPlan")
      .def(py::init<>())
      .def("buffer",
           [](Plan& p, int home, std::int64_t size, std::int64_t place, int item) {
             need(home >= 1 && home <= 5 && item >= 0 && item <= 2, "home must be 1 to 5, item 0 to 2");
             return p.add_buffer(static_cast<Home>(home), size, place, static_cast<Item>(item));
           })
      .def("constant", [](Plan& p, const Floats& values) { return p.add_constant(values.data(), values.size()); },
           py::arg("values").noconvert())
      .def("weights",
           [](Plan& p, const Floats& rows, const std::optional<Floats>& bias, const std::vector<std::int64_t>& widths,
              bool half) {
             need(rows.ndim() == 2 && rows.size() > 0, "weights must be [K, N] and not empty");
             need(!bias || (bias->ndim() == 1 && bias->shape(0) == rows.shape(1)), "bias must be [N]");
             return p.add_weights(rows.data(), rows.shape(0), rows.shape(1), bias ? bias->data() : nullptr, widths,
                                  half);
           },
           py::arg("rows").noconvert(), py::arg("bias").noconvert(), py::arg("widths"), py::arg("half"))
      .def("map",
           [](Plan& p, int op, float first, float second, const Place& out, const Place& a,
              const std::optional<Place>& b) {
             p.add(MapStep{static_cast<Map>(op), first, second, view(out), view(a), view(b)});
           })
      .def("gemm",
           [](Plan& p, std::size_t weights, const std::vector<Place>& parts, const Place& out,
              const std::optional<Place>& residual, int act, float alpha) {
             std::vector<View> views;
             for (const Place& part : parts) views.push_back(view(part));
             p.add(GemmStep{std::move(views), view(out), view(residual), static_cast<Act>(act), alpha, weights});
           })
      .def("taps",
           [](Plan& p, const Place& out, const Place& x, const Place& w, const Place& bias, int act, float alpha) {
             p.add(TapsStep{view(out), view(x), view(w), view(bias), static_cast<Act>(act), alpha});
           })
      .def("row",
           [](Plan& p, int op, float number, const Place& out, const Place& x, const std::optional<Place>& scale,
              const std::optional<Place>& bias) {
             p.add(RowStep{static_cast<Row>(op), number, view(out), view(x), view(scale), view(bias)});
           })
      .def("convert",
           [](Plan& p, const Place& out, const Place& x) { p.add(ConvertStep{view(out), view(x)}); })
      .def("seal", &Plan::seal)
      .def_property_readonly("arena", &Plan::arena)
      .def_property_readonly("weight_bytes", &Plan::weight_bytes);
  py::class_<Bound>(m, "StepRun")
      .def(py::init<std::shared_ptr<Plan>, std::int64_t, py::list, py::list, py::list, py::list>())
      .def("step", &Bound::step)
      .def("look_up", &Bound::look_up, py::arg("books"), py::arg("vectors").noconvert(), py::arg("codes").noconvert())
      .def("search", &Bound::search, py::arg("books"), py::arg("vectors").noconvert(), py::arg("codes").noconvert(),
           py::arg("layers").noconvert())
      .def("poison", &Bound::poison)
      .def("profile", &Bound::profile);
}

}  // namespace ossicle
