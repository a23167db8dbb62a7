// What the bindings share. They guard memory; the Python side names what is wrong with more words.
#pragma once
#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

namespace ossicle {
namespace py = pybind11;

using Floats = py::array_t<float, py::array::c_style>;

inline void need(bool fine, const char* what) {
  if (!fine) throw std::invalid_argument(what);
}

void bind_search(py::module_& m);
void bind_layers(py::module_& m);
void bind_stream(py::module_& m);
void bind_native(py::module_& m);
void bind_rows(py::module_& m);

}  // namespace ossicle
