// The engine's objects in Python: a lane for each stream and one Turns for all of them.
//
// They are made with CPython's own interface: a call through pybind11 costs as much as what is done here for a hop.
#pragma once
#include "bind.hpp"
#include "lane.hpp"
#include "rows.hpp"

namespace ossicle::engine {

// A reference that is given back.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* own) : object_(own) {}
  Ref(Ref&& other) noexcept : object_(other.release()) {}
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = object_;
    object_ = other.release();
    Py_XDECREF(old);
    return *this;
  }
  Ref(const Ref&) = delete;
  Ref& operator=(const Ref&) = delete;
  ~Ref() { Py_XDECREF(object_); }
  static Ref to(PyObject* borrowed) { return Ref(Py_XNewRef(borrowed)); }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Names of attributes, made once.
struct Names {
  PyObject *samples, *start, *inputs, *discont, *after_gap, *arrival_ns;
};
const Names& names();

// What all streams of an engine share: its clock, whether its thread was told, and whom to call for what is rare.
struct Turns {
  PyObject_HEAD
  PyObject *clock, *wake;
  PyObject *chunk, *ledger, *scrubbed, *refuse;
  PyObject *heed, *lost, *post, *fail, *finish, *breathe;
  char awake, stale;
  bool monotonic;  // the clock is time.monotonic_ns
  long long since;    // when this thread last got the interpreter's lock
  long long hold_ns;  // how long it may keep it between two streams; below 0: as long as it likes
};

struct PlainLane {  // what Python may read and write by its place
  PyObject_HEAD
  Turns* turns;
  PyObject *push, *take, *state, *on_events;
  char closed, shut, ending, bypass;
  long long hops, misses, deadline_ns, period_ns, latency, group, bad_hops, gaps;
};

struct Lane : PlainLane {
  Inbox inbox;
  Hops ready;
  Times times;
};

extern PyTypeObject *lane_type, *turns_type;

bool now_ns(Turns& turns, std::int64_t& ns);

inline bool is_array(PyObject* object) {
  return PyObject_TypeCheck(object, py::detail::npy_api::get().PyArray_Type_);
}

// Runs f, which returns a new reference or nullptr with an error set; memory that ran out becomes MemoryError.
template <class F>
PyObject* guarded(F f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
  }
}

// The lane of an object, or nullptr with an error set.
inline Lane* lane_of(PyObject* object) {
  static PyTypeObject* known = nullptr;  // held; nearly always the same
  if (Py_TYPE(object) != known) {
    if (!PyObject_TypeCheck(object, lane_type)) {
      PyErr_SetString(PyExc_TypeError, "a lane is expected");
      return nullptr;
    }
    Py_INCREF(Py_TYPE(object));
    Py_XSETREF(known, Py_TYPE(object));
  }
  return static_cast<Lane*>(reinterpret_cast<PlainLane*>(object));
}

inline void prefetch(const void* at, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(at) + i);
}

template <class... Args>
inline PyObject* call(PyObject* callable, Args... args) {
  PyObject* given[] = {nullptr, args...};
  return PyObject_Vectorcall(callable, given + 1, sizeof...(args) | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr);
}

inline bool done(PyObject* made) {
  Py_XDECREF(made);
  return made != nullptr;
}

// Between two streams: lets other threads run Python if they could not for a while. 1: it did, 0: no need, -1: an error
// is set.
inline int pause(Turns& turns) {
  std::int64_t now;
  if (turns.hold_ns < 0) return 0;
  if (!now_ns(turns, now)) return -1;
  if (now - turns.since < turns.hold_ns) return 0;
  return done(PyObject_CallNoArgs(turns.breathe)) ? 1 : -1;
}

// Ends a stream with the error that its task raised; false if it is not one to be caught.
inline bool fail(Turns& turns, Lane& lane) {
  if (!PyErr_ExceptionMatches(PyExc_Exception)) return false;
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace) PyException_SetTraceback(value, trace);
  const Ref kept[] = {Ref(type), Ref(value), Ref(trace)};
  return done(call(turns.fail, reinterpret_cast<PyObject*>(&lane), value));
}

// Whether an array is float32, side by side and finite: no closer look is needed.
inline bool sound(PyObject* samples) {
  static PyObject* const f32 = py::detail::npy_api::get().PyArray_DescrFromType_(py::detail::npy_api::NPY_FLOAT_);
  if (!is_array(samples)) return false;
  const auto* array = py::detail::array_proxy(samples);
  if (array->descr != f32 || !(array->flags & py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_)) return false;
  std::size_t count = 1;
  for (int axis = 0; axis < array->nd; ++axis) count *= static_cast<std::size_t>(array->dimensions[axis]);
  return finite(reinterpret_cast<const float*>(array->data), count);
}

// gather(targets, held, lanes, places): bring what each first hop brings into its row of an array [B, ...], by name:
// all of the targets, and any that is held. False: not as usual, and rows may be half written; the twin says what.
PyObject* gather(Turns* turns, PyObject* args);

// deliver(lanes, made, places, begun, batch_us, compute_us): hand each stream its row of what the model made;
// False, and nothing was done: not all of it is finite.
PyObject* deliver(Turns* turns, PyObject* args);

void bind_lane(py::module_& m);
void bind_turns(py::module_& m);

}  // namespace ossicle::engine
