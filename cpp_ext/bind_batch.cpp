// A batch: hops come together, and what the model made goes to its streams: a row, the task's events of it, a ledger.
#include "engine_objects.hpp"

namespace ossicle::engine {
namespace {

// The same for all streams of a batch.
struct Batch {
  std::int64_t begun_ns, batch_us, compute_us;
  Ref batch, compute, nothing;  // as Python's numbers
};

// Row `place` of an array [B, ...], as a view.
PyObject* row_of(PyObject* array, Py_ssize_t place) {
  const auto& api = py::detail::npy_api::get();
  const auto* whole = py::detail::array_proxy(array);
  if (Py_TYPE(array) != api.PyArray_Type_ || whole->nd < 2 || place >= whole->dimensions[0])  // numbers, or an error
    return PySequence_GetItem(array, place);
  Py_INCREF(whole->descr);
  Ref view(api.PyArray_NewFromDescr_(api.PyArray_Type_, whole->descr, whole->nd - 1, whole->dimensions + 1,
                                     whole->strides + 1, whole->data + place * whole->strides[0], whole->flags,
                                     nullptr));
  if (!view || api.PyArray_SetBaseObject_(view.get(), Py_NewRef(array))) return nullptr;
  return view.release();
}

PyObject* rows_of(PyObject* made, Py_ssize_t place) {
  Ref rows(PyDict_New());
  PyObject *name, *array;
  for (Py_ssize_t at = 0; rows && PyDict_Next(made, &at, &name, &array);) {
    const Ref row(row_of(array, place));
    if (!row || PyDict_SetItem(rows.get(), name, row.get())) return nullptr;
  }
  return rows.release();
}

PyObject* ledger_of(const Turns& turns, const Lane& lane, const Hop& hop, const Batch& batch, std::int64_t total_us,
                    bool missed) {
  const std::int64_t wait_us = whole_us(hop.ready_ns - hop.arrival_ns);
  const std::int64_t queue_us = whole_us(batch.begun_ns - hop.ready_ns);
  const std::int64_t post_us = total_us - wait_us - queue_us - batch.batch_us - batch.compute_us;
  const Ref wait(PyLong_FromLongLong(wait_us)), queued(PyLong_FromLongLong(queue_us));
  const Ref post(PyLong_FromLongLong(std::max<std::int64_t>(post_us, 0))), latency(PyLong_FromLongLong(lane.latency));
  const Ref backlog = lane.ready.empty()
                          ? Ref::to(batch.nothing.get())
                          : Ref(PyFloat_FromDouble(static_cast<double>(lane.ready.size()) *
                                                   static_cast<double>(lane.period_ns) / 1e6));
  if (!wait || !queued || !post || !latency || !backlog) return nullptr;
  return call(turns.ledger, wait.get(), queued.get(), batch.batch.get(), batch.compute.get(), post.get(), latency.get(),
              backlog.get(), missed ? Py_True : Py_False);
}

// [(event, ledger), ...] to whoever listens.
bool tell(Lane& lane, PyObject* events, PyObject* ledger) {
  const Ref given(PySequence_Fast(events, "a task returns a list of events"));
  const Py_ssize_t count = given ? PySequence_Fast_GET_SIZE(given.get()) : 0;
  Ref list(given ? PyList_New(count) : nullptr);
  for (Py_ssize_t i = 0; list && i < count; ++i) {
    PyObject* pair = PyTuple_Pack(2, PySequence_Fast_GET_ITEM(given.get(), i), ledger);
    if (!pair) return false;
    PyList_SET_ITEM(list.get(), i, pair);
  }
  return list && done(call(lane.on_events, list.get()));
}

bool deliver_one(Turns& turns, Lane& lane, PyObject* made, Py_ssize_t place, const Batch& batch) {
  auto* self = reinterpret_cast<PyObject*>(&lane);
  Ref rows(rows_of(made, place));
  if (!rows) return false;
  const Hop hop = lane.ready.pop();
  const Ref kept(static_cast<PyObject*>(hop.hop)), notes(static_cast<PyObject*>(hop.notes));
  const Ref events(call(lane.take, lane.state, kept.get(), rows.get()));
  if (!events) return fail(turns, lane);
  std::int64_t now;
  if (!now_ns(turns, now)) return false;
  const std::int64_t total_us = whole_us(now - hop.arrival_ns);
  const bool missed = now > hop.deadline_ns;
  ++lane.hops;
  lane.misses += missed;
  lane.times.add(total_us);
  const int any = PyObject_IsTrue(events.get());
  if (any < 0) return false;
  if (any && !lane.closed) {
    const Ref ledger(ledger_of(turns, lane, hop, batch, total_us, missed));
    if (!ledger || !tell(lane, events.get(), ledger.get())) return false;
  }
  for (Py_ssize_t i = 0; notes && i < PyList_GET_SIZE(notes.get()); ++i)
    if (!done(PyObject_CallNoArgs(PyList_GET_ITEM(notes.get(), i)))) return false;
  return !lane.ending || !lane.ready.empty() || done(call(turns.finish, self));
}

// Copies a value into its row of a target [B, ...]; false if it is not as usual.
bool write(PyObject* array, PyObject* value, Py_ssize_t place) {
  constexpr int dense = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_;
  constexpr int usable = dense | py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  if (!is_array(array) || !is_array(value)) return false;
  const auto *target = py::detail::array_proxy(array), *row = py::detail::array_proxy(value);
  if ((target->flags & usable) != usable || !(row->flags & dense) || row->descr != target->descr) return false;
  if (row->nd + 1 != target->nd || place < 0 || place >= target->dimensions[0]) return false;
  if (target->dimensions[0] < 2) return false;  // the only row of an array may have any stride
  if (!std::equal(row->dimensions, row->dimensions + row->nd, target->dimensions + 1)) return false;
  write_row(target->data, static_cast<std::size_t>(place), row->data, static_cast<std::size_t>(target->strides[0]));
  return true;
}

// Whether an array holds integers or booleans.
bool whole_numbers(PyObject* array) {
  if (!is_array(array)) return false;
  const char kind = py::detail::array_descriptor_proxy(py::detail::array_proxy(array)->descr)->kind;
  return kind == 'i' || kind == 'u' || kind == 'b';
}

// Asks for what the streams' turns will touch, all at once: one after another each would wait for memory.
void warm(PyObject* lanes) {
  const Py_ssize_t count = PyList_GET_SIZE(lanes);
  for (Py_ssize_t i = 0; i < count; ++i) prefetch(PyList_GET_ITEM(lanes, i), sizeof(Lane));
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Lane* lane = lane_of(PyList_GET_ITEM(lanes, i));
    if (!lane) return PyErr_Clear();
    __builtin_prefetch(lane->take);
    __builtin_prefetch(lane->on_events);
    __builtin_prefetch(lane->times.end(), 1);
    if (!lane->ready.empty()) __builtin_prefetch(&lane->ready.front());
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Lane* lane = reinterpret_cast<const Lane*>(PyList_GET_ITEM(lanes, i));
    if (!lane->ready.empty()) __builtin_prefetch(lane->ready.front().hop);
    if (PyMethod_Check(lane->take)) prefetch(reinterpret_cast<char*>(PyMethod_GET_SELF(lane->take)) - 32, 64);
    if (PyCFunction_Check(lane->on_events)) __builtin_prefetch(PyCFunction_GET_SELF(lane->on_events));
  }
}

}  // namespace

PyObject* gather(Turns*, PyObject* args) {
  PyObject *targets, *held, *lanes, *places;
  if (!PyArg_ParseTuple(args, "O!O!O!O!", &PyDict_Type, &targets, &PyDict_Type, &held, &PyList_Type, &lanes,
                        &PyList_Type, &places))
    return nullptr;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lanes) && i < PyList_GET_SIZE(places); ++i) {
    const Lane* lane = lane_of(PyList_GET_ITEM(lanes, i));
    const Py_ssize_t place = lane ? PyLong_AsSsize_t(PyList_GET_ITEM(places, i)) : -1;
    if (PyErr_Occurred()) return nullptr;
    if (lane->ready.empty()) Py_RETURN_FALSE;
    const Ref inputs(PyObject_GetAttr(static_cast<PyObject*>(lane->ready.front().hop), names().inputs));
    if (!inputs) return nullptr;
    if (!PyDict_CheckExact(inputs.get())) Py_RETURN_FALSE;
    Py_ssize_t needed = PyDict_GET_SIZE(targets);
    PyObject *name, *value;
    for (Py_ssize_t at = 0; PyDict_Next(inputs.get(), &at, &name, &value);) {
      PyObject* array = PyDict_GetItemWithError(targets, name);
      if (array) --needed;
      if (!array && !PyErr_Occurred()) array = PyDict_GetItemWithError(held, name);
      if (PyErr_Occurred()) return nullptr;
      if (!array || !write(array, value, place)) Py_RETURN_FALSE;
    }
    if (needed) Py_RETURN_FALSE;
  }
  Py_RETURN_TRUE;
}

PyObject* deliver(Turns* turns, PyObject* args) {
  PyObject *lanes, *made, *places;
  long long begun_ns, batch_us, compute_us;
  if (!PyArg_ParseTuple(args, "O!O!O!LLL", &PyList_Type, &lanes, &PyDict_Type, &made, &PyList_Type, &places, &begun_ns,
                        &batch_us, &compute_us))
    return nullptr;
  const Batch batch{begun_ns, batch_us, compute_us, Ref(PyLong_FromLongLong(batch_us)),
                    Ref(PyLong_FromLongLong(compute_us)), Ref(PyFloat_FromDouble(0.0))};
  if (!batch.batch || !batch.compute || !batch.nothing) return nullptr;
  return guarded([&]() -> PyObject* {
    warm(lanes);
    PyObject *name, *array;
    for (Py_ssize_t at = 0; PyDict_Next(made, &at, &name, &array);)
      if (!sound(array) && !whole_numbers(array)) Py_RETURN_FALSE;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lanes) && i < PyList_GET_SIZE(places); ++i) {
      const Ref held = Ref::to(PyList_GET_ITEM(lanes, i));
      Lane* lane = lane_of(held.get());
      if (!lane) return nullptr;
      if (lane->ready.empty()) continue;  // its end came while others were answered
      const Py_ssize_t place = PyLong_AsSsize_t(PyList_GET_ITEM(places, i));
      if (place < 0) return PyErr_Occurred() ? nullptr : PyErr_Format(PyExc_IndexError, "a place is negative");
      lane->bad_hops = 0;
      if (!deliver_one(*turns, *lane, made, place, batch) || pause(*turns) < 0) return nullptr;
    }
    return Py_NewRef(Py_True);
  });
}

}  // namespace ossicle::engine
