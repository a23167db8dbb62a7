// The step executor in Python: a plan is written step by step, a run is bound to arrays.
#include "bind.hpp"
#include "native.hpp"

namespace ossicle {
namespace {
using namespace native;

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
    run_ = std::make_unique<Run>(*plan_, streams, outside);
  }
  void step(int side) {
    py::gil_scoped_release release;
    run_->step(side);
  }
  void poison() { run_->poison(); }
  std::vector<std::pair<int, std::int64_t>> profile(int side) {
    std::vector<std::pair<int, std::int64_t>> found;
    for (const auto& [kind, ns] : run_->profile(side)) found.emplace_back(static_cast<int>(kind), ns);
    return found;
  }

 private:
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
      .def("poison", &Bound::poison)
      .def("profile", &Bound::profile);
}

}  // namespace ossicle
