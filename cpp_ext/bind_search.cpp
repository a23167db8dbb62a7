// Books in Python.
#include "bind.hpp"
#include "books.hpp"

namespace ossicle {
namespace {

using Codes = py::array_t<std::int32_t, py::array::c_style>;

template <class T>
void encode(const PackedBooks& books, const py::array_t<T, py::array::c_style>& x, Codes codes) {
  need(x.ndim() == 2 && x.shape(1) == books.D(), "x must be [T, D] with the books' D");
  need(codes.ndim() == 2 && codes.shape(1) == x.shape(0), "codes must be [layers, T]");
  need(codes.shape(0) <= books.K(), "more layers are asked for than there are books");
  const T* from = x.data();
  std::int32_t* to = codes.mutable_data();
  const std::int64_t frames = x.shape(0), layers = codes.shape(0);
  py::gil_scoped_release release;
  books.encode(from, frames, layers, to, frames);
}

}  // namespace

void bind_search(py::module_& m) {
  py::class_<PackedBooks, std::shared_ptr<PackedBooks>>(m, "Books")
      .def(py::init([](const Floats& rows, bool cosine, bool integer) {
             need(rows.ndim() == 3 && rows.size() > 0, "books must be [K, N, D] and not empty");
             need(rows.shape(2) <= 32768, "D may be 32768 at most");
             const float* data = rows.data();
             py::gil_scoped_release release;
             return std::make_shared<PackedBooks>(data, rows.shape(0), rows.shape(1), rows.shape(2), cosine,
                                                  integer);
           }),
           py::arg("rows").noconvert(), py::arg("cosine"), py::arg("integer"))
      .def("encode", &encode<float>, py::arg("x").noconvert(), py::arg("codes").noconvert())
      .def("encode64", &encode<double>, py::arg("x").noconvert(), py::arg("codes").noconvert())
      .def("decode",
           [](const PackedBooks& books, const Codes& codes, Floats out) {
             need(codes.ndim() == 2 && codes.shape(0) <= books.K(), "codes must be [layers <= K, T]");
             need(out.ndim() == 2 && out.shape(0) == codes.shape(1) && out.shape(1) == books.D(),
                  "out must be [T, D]");
             const std::int32_t* from = codes.data();
             float* to = out.mutable_data();
             const std::int64_t layers = codes.shape(0), frames = codes.shape(1);
             bool fine;
             {
               py::gil_scoped_release release;
               fine = books.decode(from, layers, frames, to);
             }
             need(fine, "a code is below -1 or not below N");
           },
           py::arg("codes").noconvert(), py::arg("out").noconvert())
      .def_property_readonly("integer", &PackedBooks::integer)
      .def("outer",
           [](const PackedBooks& books, std::int64_t k) {
             need(k >= 0 && k < books.K(), "k must name a book");
             return books.outer(k);
           });
}

}  // namespace ossicle
