// Convolution, GRU, attention and pointwise steps in Python.
#include <algorithm>

#include "bind.hpp"
#include "layers.hpp"

namespace ossicle {
namespace {

using Longs = py::array_t<std::int64_t, py::array::c_style>;
using Ints = py::array_t<std::int32_t, py::array::c_style>;
using Bools = py::array_t<bool, py::array::c_style>;

bool sized(const py::array& a, std::initializer_list<py::ssize_t> sizes) {
  if (a.ndim() != static_cast<py::ssize_t>(sizes.size())) return false;
  py::ssize_t i = 0;
  for (const py::ssize_t n : sizes)
    if (a.shape(i++) != n) return false;
  return true;
}

std::unique_ptr<PackedMatrix> make_matrix(const Floats& rows, const std::optional<Floats>& bias, int kind,
                                          float input_scale) {
  need(rows.ndim() == 3 && rows.size() > 0, "rows must be [M, taps, C] and not empty");
  need(!bias || sized(*bias, {rows.shape(0)}), "bias must be [M]");
  need(kind >= 0 && kind <= 3, "kind must be 0 (fp32), 1 (bf16), 2 (int8) or 3 (fixed24)");
  need(kind != 2 || input_scale > 0.0f, "int8 needs a positive input scale");
  need(kind != 2 || rows.shape(1) * rows.shape(2) <= 65536, "int8 sums hold at most 65536 products");
  const float* b = bias ? bias->data() : nullptr;
  return std::make_unique<PackedMatrix>(rows.data(), rows.shape(0), rows.shape(1), rows.shape(2), b,
                                        static_cast<Weights>(kind), input_scale);
}

constexpr std::int64_t kDilation = 1 << 20;

void conv(const PackedMatrix& w, const Floats& x, py::array ring, Longs position, std::int64_t stride,
          std::int64_t dilation, Floats out) {
  need(x.ndim() == 3 && x.size() > 0 && x.shape(2) == w.C(), "x must be [B, T, C] and not empty");
  need(stride >= 1 && dilation >= 1 && dilation <= kDilation, "stride or dilation is out of range");
  need(x.shape(1) % stride == 0, "T must be a multiple of the stride");
  const std::int64_t history = (w.taps() - 1) * dilation + 1 - stride;
  need(history >= 0, "the taps must span the stride");
  need(sized(ring, {x.shape(0), history, w.padded()}) && ring.itemsize() == static_cast<py::ssize_t>(w.item()) &&
           ring.dtype().kind() == (w.item() == 4 ? 'f' : w.item() == 2 ? 'u' : 'i') && ring.writeable() &&
           (ring.flags() & py::array::c_style),
       "ring must be [B, history, C] of the weights' dtype, C-contiguous");
  need(sized(position, {x.shape(0)}), "position must be [B]");
  need(sized(out, {x.shape(0), x.shape(1) / stride, w.matrix().M}), "out must be [B, T / stride, M]");
  const ConvStep step{x.shape(0), x.shape(1), stride, dilation, history, x.data(), ring.mutable_data(),
                      position.mutable_data(), out.mutable_data()};
  for (std::int64_t b = 0; b < step.B; ++b) need(step.position[b] >= 0, "position must not be negative");
  py::gil_scoped_release release;
  conv_step(w, step);
}

// An array as NumPy makes it: of this very dtype, side by side; what is not is looked at by `conv`.
const py::detail::PyArray_Proxy* plain(PyObject* object, const PyObject* descr, int nd, bool written) {
  using api = py::detail::npy_api;
  if (Py_TYPE(object) != api::get().PyArray_Type_) return nullptr;
  const auto* array = py::detail::array_proxy(object);
  const int flags = api::NPY_ARRAY_C_CONTIGUOUS_ | api::NPY_ARRAY_ALIGNED_ | (written ? api::NPY_ARRAY_WRITEABLE_ : 0);
  return array->descr == descr && array->nd == nd && (array->flags & flags) == flags ? array : nullptr;
}

// The straight path of `conv`, written against CPython itself: after a step over weights that fill the second cache,
// every line that a call touches comes from the third, and pybind11's calls took 9 us then.
bool conv_plainly(const PackedMatrix& w, PyObject* const* args) {
  using api = py::detail::npy_api;
  static PyObject* const descrs[] = {
      api::get().PyArray_DescrFromType_(api::NPY_FLOAT_), api::get().PyArray_DescrFromType_(api::NPY_INT64_),
      api::get().PyArray_DescrFromType_(api::NPY_UINT16_), api::get().PyArray_DescrFromType_(api::NPY_INT8_)};
  const auto* x = plain(args[0], descrs[0], 3, false);
  const auto* ring = plain(args[1], descrs[w.item() == 4 ? 0 : w.item() == 2 ? 2 : 3], 3, true);
  const auto* position = plain(args[2], descrs[1], 1, true);
  const auto* out = plain(args[5], descrs[0], 3, true);
  if (!x || !ring || !position || !out || !PyLong_CheckExact(args[3]) || !PyLong_CheckExact(args[4])) return false;
  int overflow;
  const std::int64_t stride = PyLong_AsLongLongAndOverflow(args[3], &overflow);
  const std::int64_t dilation = PyLong_AsLongLongAndOverflow(args[4], &overflow);
  const std::int64_t B = x->dimensions[0], T = x->dimensions[1];
  if (B < 1 || T < 1 || stride < 1 || dilation < 1 || dilation > kDilation || T % stride) return false;
  const std::int64_t history = (w.taps() - 1) * dilation + 1 - stride;
  const auto shaped = [](const auto* a, std::int64_t i, std::int64_t j, std::int64_t k) {
    return a->dimensions[0] == i && a->dimensions[1] == j && a->dimensions[2] == k;
  };
  if (history < 0 || !shaped(x, B, T, w.C()) || !shaped(ring, B, history, w.padded()) ||
      !shaped(out, B, T / stride, w.matrix().M) || position->dimensions[0] != B)
    return false;
  auto* at = reinterpret_cast<std::int64_t*>(position->data);
  for (std::int64_t b = 0; b < B; ++b)
    if (at[b] < 0) return false;
  const ConvStep step{B, T, stride, dilation, history, reinterpret_cast<const float*>(x->data), ring->data, at,
                      reinterpret_cast<float*>(out->data)};
  PyThreadState* held = PyEval_SaveThread();
  try {
    conv_step(w, step);
  } catch (...) {
    PyEval_RestoreThread(held);
    throw;
  }
  PyEval_RestoreThread(held);
  return true;
}

PyObject* conv_method(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  try {
    auto* instance = reinterpret_cast<py::detail::instance*>(self);
    if (count == 6 && instance->simple_layout && instance->simple_value_holder[0] &&
        conv_plainly(*static_cast<const PackedMatrix*>(instance->simple_value_holder[0]), args))
      Py_RETURN_NONE;
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
  static PyObject* const name = PyUnicode_InternFromString("conv_any");
  PyObject* given[8] = {nullptr, self};
  if (count > 6) return PyErr_Format(PyExc_TypeError, "conv_step takes 6 arrays and numbers, not %zd", count);
  std::copy_n(args, count, given + 2);
  return PyObject_VectorcallMethod(name, given + 1, static_cast<std::size_t>(count + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   nullptr);
}

void gru(const PackedMatrix& input, const PackedMatrix& hidden, const Floats& x, Floats h, Floats out) {
  need(hidden.matrix().M == 3 * hidden.C() && input.matrix().M == hidden.matrix().M && input.taps() == 1 &&
           hidden.taps() == 1 && input.item() == 4 && hidden.item() == 4,
       "weights must be fp32 or of 24 bits, [3 H, I] and [3 H, H]");
  need(x.ndim() == 3 && x.shape(2) == input.C(), "x must be [B, T, I]");
  need(sized(h, {x.shape(0), hidden.C()}), "h must be [B, H]");
  need(sized(out, {x.shape(0), x.shape(1), hidden.C()}), "out must be [B, T, H]");
  const GruStep step{x.shape(0), x.shape(1), x.data(), h.mutable_data(), out.mutable_data()};
  py::gil_scoped_release release;
  gru_step(input, hidden, step);
}

void attention(const Floats& q, const Floats& k, const Floats& v, Floats keys, Floats values, Longs position,
               std::int64_t window, float scale, double base, bool interleaved, const std::optional<Bools>& active,
               Floats out) {
  need(q.ndim() == 4 && k.ndim() == 4, "q and k must be [B, T, H, W]");
  const std::int64_t B = q.shape(0), T = q.shape(1), H = q.shape(2), W = q.shape(3), KV = k.shape(2);
  need(W >= 1 && W <= 256 && (base <= 0.0 || W % 2 == 0), "W must be 1 to 256, and even where it is turned");
  need(KV >= 1 && H % KV == 0 && sized(k, {B, T, KV, W}) && sized(v, {B, T, KV, W}), "k and v must be [B, T, H, W]");
  need(values.ndim() == 4, "values must be [B, H, capacity, W]");
  const std::int64_t cap = values.shape(2);
  need(cap > 0 && cap % 16 == 0 && window >= 1 && cap >= window + T - 1, "capacity must be 16 n >= window + T - 1");
  need(sized(values, {B, KV, cap, W}) && sized(keys, {B, KV, cap / 16, W, 16}), "keys and values do not fit");
  need(sized(position, {B}) && sized(out, {B, T, H, W}), "position must be [B], out as q");
  need(!active || sized(*active, {B}), "active must be [B]");
  const AttentionStep step{B, T, H, KV, W, cap, window, scale, base, interleaved, q.data(), k.data(), v.data(),
                           keys.mutable_data(), values.mutable_data(), position.mutable_data(),
                           active ? active->data() : nullptr, out.mutable_data()};
  for (std::int64_t b = 0; b < B; ++b) need(step.position[b] >= 0, "position must not be negative");
  py::gil_scoped_release release;
  attention_step(step);
}

void cross(const Floats& q, const Floats& keys, const Floats& values, const Longs& lengths, float scale, Floats out) {
  need(q.ndim() == 4 && values.ndim() == 4, "q must be [B, T, H, W], values [B, H, capacity, W]");
  const std::int64_t B = q.shape(0), T = q.shape(1), H = q.shape(2), W = q.shape(3);
  const std::int64_t KV = values.shape(1), cap = values.shape(2);
  need(W >= 1 && W <= 256 && cap % 16 == 0 && KV >= 1 && H % KV == 0, "sizes do not fit");
  need(sized(values, {B, KV, cap, W}) && sized(keys, {B, KV, cap / 16, W, 16}), "keys and values do not fit");
  need(sized(lengths, {B}) && sized(out, {B, T, H, W}), "lengths must be [B], out as q");
  for (std::int64_t b = 0; b < B; ++b)
    need(lengths.data()[b] >= 0 && lengths.data()[b] <= cap, "lengths must be 0 to the capacity");
  const CrossStep step{B, T, H, KV, W, cap, scale, q.data(), keys.data(), values.data(), lengths.data(),
                       out.mutable_data()};
  py::gil_scoped_release release;
  cross_step(step);
}

// Whether n floats at a and at b have one in common.
bool overlap(const float* a, const float* b, std::int64_t n) {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y + n * sizeof(float) && y < x + n * sizeof(float);
}

// outs[r] = sum over k of weights[r, k] * terms[k], all rows in one pass over memory.
void combine(const std::vector<Floats>& terms, const Floats& weights, std::vector<Floats> outs) {
  constexpr std::size_t kTerms = 16, kOuts = 4;
  constexpr std::int64_t kPass = 1024;  // floats of each array that are in the first cache at once
  need(!terms.empty() && terms.size() <= kTerms && !outs.empty() && outs.size() <= kOuts &&
           sized(weights, {static_cast<py::ssize_t>(outs.size()), static_cast<py::ssize_t>(terms.size())}),
       "1 to 16 terms and 1 to 4 outputs, weights [outputs, terms]");
  const Floats& first = outs[0];
  auto same = [&](const Floats& a) {
    return a.ndim() == first.ndim() && std::equal(a.shape(), a.shape() + a.ndim(), first.shape());
  };
  const float* from[kTerms];
  float* to[kOuts];
  const std::int64_t n = first.size(), count = static_cast<std::int64_t>(terms.size());
  for (std::size_t i = 0; i < terms.size(); ++i) {
    need(same(terms[i]), "every term must have the shape of the outputs");
    from[i] = terms[i].data();
  }
  for (std::size_t r = 0; r < outs.size(); ++r) {
    need(same(outs[r]), "every output must have the same shape");
    to[r] = outs[r].mutable_data();
    for (std::size_t i = 0; i < terms.size(); ++i) need(!overlap(to[r], from[i], n), "an output overlaps a term");
    for (std::size_t i = 0; i < r; ++i) need(!overlap(to[r], to[i], n), "two outputs overlap");
  }
  const float* w = weights.data();
  const std::size_t rows = outs.size();
  py::gil_scoped_release release;
  for (std::int64_t at = 0; at < n; at += kPass) {
    const float* here[kTerms];
    for (std::int64_t i = 0; i < count; ++i) here[i] = from[i] + at;
    for (std::size_t r = 0; r < rows; ++r)
      table().combine(here, w + r * count, count, std::min(kPass, n - at), to[r] + at);
  }
}

void snake(const Floats& x, const Floats& alpha, const Floats& inverse, Floats out) {
  need(x.ndim() >= 1 && alpha.ndim() == 1 && x.shape(x.ndim() - 1) == alpha.shape(0) && alpha.shape(0) > 0 &&
           sized(inverse, {alpha.shape(0)}) && out.size() == x.size(),
       "x must be [..., C], alpha and inverse [C], out as x");
  const std::int64_t C = alpha.shape(0), rows = x.size() / C;
  const float *from = x.data(), *a = alpha.data(), *i = inverse.data();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  table().snake(from, a, i, rows, C, to);
}

void log_mel(const py::array_t<std::complex<float>, py::array::c_style>& spectrum, const Ints& first,
             const Ints& length, const Floats& weights, int power, float offset, float floor, float log_scale,
             Floats out) {
  need(spectrum.ndim() == 2 && weights.ndim() == 2, "spectrum must be [T, F], weights [M, width]");
  const std::int64_t T = spectrum.shape(0), F = spectrum.shape(1), M = weights.shape(0), stride = weights.shape(1);
  need(sized(first, {M}) && sized(length, {M}) && sized(out, {T, M}), "first, length must be [M], out [T, M]");
  for (std::int64_t m = 0; m < M; ++m)
    need(first.data()[m] >= 0 && length.data()[m] >= 0 && length.data()[m] <= stride &&
             static_cast<std::int64_t>(first.data()[m]) + length.data()[m] <= F,
         "a filter reaches outside the spectrum");
  const float* from = reinterpret_cast<const float*>(spectrum.data());
  const std::int32_t *f = first.data(), *l = length.data();
  const float* w = weights.data();
  float* to = out.mutable_data();
  py::gil_scoped_release release;
  for (std::int64_t t = 0; t < T; ++t)
    table().log_mel(from + t * 2 * F, F, f, l, w, stride, M, power, offset, floor, log_scale, to + t * M);
}

}  // namespace

void bind_layers(py::module_& m) {
  py::class_<PackedMatrix> matrix(m, "Matrix");
  matrix
      .def(py::init(&make_matrix), py::arg("rows").noconvert(), py::arg("bias").noconvert(), py::arg("kind"),
           py::arg("input_scale"))
      .def_property_readonly("padded", &PackedMatrix::padded)
      .def("conv_any", &conv, py::arg("x").noconvert(), py::arg("ring").noconvert(),
           py::arg("position").noconvert(), py::arg("stride"), py::arg("dilation"), py::arg("out").noconvert());
  static PyMethodDef step{"conv_step", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&conv_method)),
                          METH_FASTCALL, "conv_step(x, ring, position, stride, dilation, out)"};
  matrix.attr("conv_step") =
      py::reinterpret_steal<py::object>(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(matrix.ptr()), &step));
  m.def("gru_step", &gru, py::arg("input"), py::arg("hidden"), py::arg("x").noconvert(), py::arg("h").noconvert(),
        py::arg("out").noconvert());
  m.def("attention_step", &attention, py::arg("q").noconvert(), py::arg("k").noconvert(), py::arg("v").noconvert(),
        py::arg("keys").noconvert(), py::arg("values").noconvert(), py::arg("position").noconvert(),
        py::arg("window"), py::arg("scale"), py::arg("base"), py::arg("interleaved"), py::arg("active").noconvert(),
        py::arg("out").noconvert());
  m.def("cross_step", &cross, py::arg("q").noconvert(), py::arg("keys").noconvert(), py::arg("values").noconvert(),
        py::arg("lengths").noconvert(), py::arg("scale"), py::arg("out").noconvert());
  m.def("combine", &combine, py::arg("terms").noconvert(), py::arg("weights").noconvert(),
        py::arg("outs").noconvert());
  m.def("snake", &snake, py::arg("x").noconvert(), py::arg("alpha").noconvert(), py::arg("inverse").noconvert(),
        py::arg("out").noconvert());
  m.def("log_mel", &log_mel, py::arg("spectrum").noconvert(), py::arg("first").noconvert(),
        py::arg("length").noconvert(), py::arg("weights").noconvert(), py::arg("power"), py::arg("offset"),
        py::arg("floor"), py::arg("log_scale"), py::arg("out").noconvert());
}

}  // namespace ossicle
