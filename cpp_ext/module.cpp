// ossicle._core: the compiled ground under ossicle.kernels.
#include "bind.hpp"
#include "engine_objects.hpp"
#include "table.hpp"

PYBIND11_MODULE(_core, m) {
  namespace py = pybind11;
  m.doc() = "Spans of floats and bytes; every function has a NumPy twin in ossicle.kernels.";
  m.def("isa", [] { return std::string(ossicle::table().name); });
  m.def("integer_dot", [] { return ossicle::table().integer_dot; });
  m.def("offered", [] {
    const char* names[8];
    const std::size_t n = ossicle::offered(names, 8);
    return std::vector<std::string>(names, names + n);
  });
  m.def("choose", [](const std::string& name) {
    if (!ossicle::choose(name.c_str()))
      throw std::invalid_argument("instruction set '" + name + "' is not offered by this processor; see offered()");
  });
  ossicle::bind_search(m);
  ossicle::bind_layers(m);
  ossicle::bind_stream(m);
  ossicle::bind_native(m);
  ossicle::bind_rows(m);
  ossicle::engine::bind_turns(m);
  ossicle::engine::bind_lane(m);
}
