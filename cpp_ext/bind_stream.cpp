// Rings, bits and frames in Python.
#include "bind.hpp"
#include "bits.hpp"
#include "framing.hpp"
#include "launcher.hpp"
#include "level.hpp"
#include "ring.hpp"

namespace ossicle {
namespace {

using Words = py::array_t<std::uint32_t, py::array::c_style>;

py::bytes pack(const Words& values, unsigned width) {
  need(width >= 1 && width <= 32, "width must be 1 to 32 bits");
  std::string out(packed_bytes(static_cast<std::size_t>(values.size()), width), '\0');
  need(pack_bits(values.data(), values.size(), width, reinterpret_cast<std::uint8_t*>(out.data())),
       "a value needs more bits than the width");
  return py::bytes(out);
}

Words unpack(const py::bytes& data, std::size_t count, unsigned width) {
  need(width >= 1 && width <= 32, "width must be 1 to 32 bits");
  const std::string_view view = data;
  need(count <= view.size() * 8 / width, "the data hold fewer numbers than asked for");
  Words out(static_cast<py::ssize_t>(count));
  need(unpack_bits(reinterpret_cast<const std::uint8_t*>(view.data()), view.size(), count, width, out.mutable_data()),
       "the data have another length than the numbers need, or bits set after the last one");
  return out;
}

void frames(Floats history, const Floats& x, std::size_t hop, Floats out) {
  need(x.ndim() == 2 && history.ndim() == 2 && history.shape(0) == x.shape(0), "history must be [C, context], x [C, T]");
  need(hop > 0 && x.shape(1) > 0 && x.shape(1) % static_cast<py::ssize_t>(hop) == 0, "T must be whole hops");
  const std::size_t C = x.shape(0), hops = x.shape(1) / hop, context = history.shape(1);
  need(out.ndim() == 3 && out.shape(0) == static_cast<py::ssize_t>(hops) && out.shape(1) == x.shape(0) &&
           out.shape(2) == static_cast<py::ssize_t>(context + hop),
       "out must be [hops, C, context + hop]");
  float *h = history.mutable_data(), *to = out.mutable_data();
  const float* from = x.data();
  py::gil_scoped_release release;
  frame(h, from, C, hops, hop, context, to);
}

void add(Floats tail, const Floats& f, std::size_t hop, Floats out) {
  need(f.ndim() == 3 && tail.ndim() == 2 && f.size() > 0, "frames must be [hops, C, n], tail [C, n - hop]");
  const std::size_t hops = f.shape(0), C = f.shape(1), length = f.shape(2);
  need(hop > 0 && hop <= length && tail.shape(0) == f.shape(1) &&
           tail.shape(1) == static_cast<py::ssize_t>(length - hop) && out.ndim() == 2 &&
           out.shape(0) == f.shape(1) && out.shape(1) == static_cast<py::ssize_t>(hops * hop),
       "tail must be [C, n - hop] and out [C, hops * hop]");
  float *t = tail.mutable_data(), *to = out.mutable_data();
  const float* from = f.data();
  py::gil_scoped_release release;
  overlap_add(t, from, C, hops, hop, length, to);
}

bool rows_of(const py::array& a, py::ssize_t B, py::ssize_t T) {
  return a.ndim() == 2 && a.shape(0) == B && a.shape(1) == T;
}

// Both are over in a microsecond or two: giving the lock back and taking it again would cost as much.
void levelled(const Floats& x, Floats power, Floats gain, const std::array<float, 5>& rates, Floats out, Floats gains) {
  need(x.ndim() == 2 && x.size() > 0, "x must be [B, T]");
  const py::ssize_t B = x.shape(0), T = x.shape(1);
  need(rows_of(power, B, 1) && rows_of(gain, B, 1), "power and gain must be [B, 1]");
  need(rows_of(out, B, T) && rows_of(gains, B, T), "out and gains must be [B, T]");
  level(x.data(), B, T, {rates[0], rates[1], rates[2], rates[3], rates[4]}, power.mutable_data(), gain.mutable_data(),
        out.mutable_data(), gains.mutable_data());
}

void unlevelled(const Floats& x, const Floats& gains, Floats past, Floats out) {
  need(x.ndim() == 2 && x.size() > 0, "x must be [B, T]");
  const py::ssize_t B = x.shape(0), T = x.shape(1);
  need(rows_of(gains, B, T) && rows_of(out, B, T), "gains and out must be [B, T]");
  need(past.ndim() == 2 && past.shape(0) == B, "past must be [B, delay]");
  unlevel(x.data(), gains.data(), B, T, past.shape(1), past.mutable_data(), out.mutable_data());
}

}  // namespace

void bind_stream(py::module_& m) {
  m.def("pack_bits", &pack, py::arg("values").noconvert(), py::arg("width"));
  m.def("unpack_bits", &unpack, py::arg("data"), py::arg("count"), py::arg("width"));
  m.def("frame", &frames, py::arg("history").noconvert(), py::arg("x").noconvert(), py::arg("hop"),
        py::arg("out").noconvert());
  m.def("overlap_add", &add, py::arg("tail").noconvert(), py::arg("frames").noconvert(), py::arg("hop"),
        py::arg("out").noconvert());
  m.def("level", &levelled, py::arg("x").noconvert(), py::arg("power").noconvert(), py::arg("gain").noconvert(),
        py::arg("rates"), py::arg("out").noconvert(), py::arg("gains").noconvert());
  m.def("unlevel", &unlevelled, py::arg("x").noconvert(), py::arg("gains").noconvert(), py::arg("past").noconvert(),
        py::arg("out").noconvert());
  py::class_<SampleRing>(m, "SampleRing")
      .def(py::init([](std::size_t samples, std::size_t channels) {
             need(samples >= 1 && samples <= (1u << 26) && channels >= 1 && channels <= 64,
                  "samples must be 1 to 2^26 and channels 1 to 64");
             return std::make_unique<SampleRing>(samples, channels);
           }),
           py::arg("samples"), py::arg("channels"))
      .def("push",
           [](SampleRing& ring, const Floats& x) {
             need(x.ndim() == 2 && x.shape(1) == static_cast<py::ssize_t>(ring.channels()), "frames must be [T, C]");
             const float* from = x.data();
             const std::size_t n = x.shape(0);
             py::gil_scoped_release release;
             return ring.push(from, n);
           },
           py::arg("frames").noconvert())
      .def("pop",
           [](SampleRing& ring, Floats out) {
             need(out.ndim() == 2 && out.shape(1) == static_cast<py::ssize_t>(ring.channels()), "out must be [T, C]");
             float* to = out.mutable_data();
             const std::size_t n = out.shape(0);
             py::gil_scoped_release release;
             return ring.pop(to, n);
           },
           py::arg("out").noconvert())
      .def("__len__", &SampleRing::size)
      .def_property_readonly("capacity", &SampleRing::capacity)
      .def_property_readonly("dropped", &SampleRing::dropped);
  py::class_<CubinLauncher>(m, "CubinLauncher")
      .def(py::init<const std::string&, const std::string&>(), py::arg("cubin"), py::arg("library") = "libcuda.so.1")
      .def("launch", &CubinLauncher::launch, py::arg("function"), py::arg("grid"), py::arg("warps"),
           py::arg("shared"), py::arg("pointers"), py::arg("integers"), py::arg("stream") = 0);
}

}  // namespace ossicle
