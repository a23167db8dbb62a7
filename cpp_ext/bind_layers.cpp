#include "bind.hpp"
namespace ossicle { void bind_layers(py::module_&) {} }
