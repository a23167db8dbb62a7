// Rows of a batch in Python: one call for all streams, because a call costs more than a row.
#include "bind.hpp"
#include "rows.hpp"

namespace ossicle {
namespace {

bool contiguous(const py::array& a) { return a.flags() & py::array::c_style; }

bool same_kind(const py::array& a, const py::array& b) {
  const auto *one = py::detail::array_proxy(a.ptr())->descr, *two = py::detail::array_proxy(b.ptr())->descr;
  return one == two || py::detail::npy_api::get().PyArray_EquivTypes_(const_cast<PyObject*>(one), const_cast<PyObject*>(two));
}

bool fits(const py::array& row, const py::array& target) {
  if (row.ndim() + 1 != target.ndim() || !contiguous(row) || !same_kind(row, target)) return false;
  return std::equal(row.shape(), row.shape() + row.ndim(), target.shape() + 1);
}

// Writes values[i] to row places[i]; returns how many were written before one did not fit.
std::size_t write_rows(py::array target, const py::list& values, const py::list& places) {
  need(target.ndim() >= 1 && target.shape(0) > 0 && contiguous(target) && target.writeable(),
       "target must be [B, ...], contiguous and writeable");
  need(values.size() == places.size(), "as many places as values are needed");
  const std::size_t rows = target.shape(0), size = target.nbytes() / rows;
  char* to = static_cast<char*>(target.mutable_data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const py::handle value = PyList_GET_ITEM(values.ptr(), i);
    if (!py::isinstance<py::array>(value)) return i;
    const auto row = py::reinterpret_borrow<py::array>(value);
    if (!fits(row, target)) return i;
    const std::size_t place = PyLong_AsSize_t(PyList_GET_ITEM(places.ptr(), i));
    if (place == static_cast<std::size_t>(-1) && PyErr_Occurred()) throw py::error_already_set();
    need(place < rows, "a place lies outside the batch");
    write_row(to, place, static_cast<const char*>(row.data()), size);
  }
  return values.size();
}

// Whether all are contiguous float32 arrays without NaN or Inf; false: look closer.
bool all_finite(const py::list& arrays) {
  for (const py::handle item : arrays) {
    if (!py::isinstance<Floats>(item)) return false;  // exact: nothing is converted
    const auto array = py::reinterpret_borrow<Floats>(item);
    if (!finite(array.data(), static_cast<std::size_t>(array.size()))) return false;
  }
  return true;
}

}  // namespace

void bind_rows(py::module_& m) {
  m.def("write_rows", &write_rows, py::arg("target").noconvert(), py::arg("values"), py::arg("places"));
  m.def("all_finite", &all_finite, py::arg("arrays"));
}

}  // namespace ossicle
