#include "bind.hpp"
namespace ossicle { void bind_stream(py::module_&) {} }
