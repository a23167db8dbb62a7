// One stream's lane in Python: what waits in it, and its counters as plain members.
#include "engine_objects.hpp"

#include <structmember.h>

namespace ossicle::engine {

PyTypeObject* lane_type = nullptr;

namespace {

PyObject* make(PyTypeObject* type, PyObject*, PyObject*) {
  auto* lane = reinterpret_cast<Lane*>(type->tp_alloc(type, 0));  // all zero
  if (!lane) return nullptr;
  new (&lane->inbox) Inbox;
  new (&lane->ready) Hops;
  new (&lane->times) Times;
  return reinterpret_cast<PyObject*>(lane);
}

int traverse(Lane* lane, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(lane));
  for (PyObject* held : {reinterpret_cast<PyObject*>(lane->turns), lane->push, lane->take, lane->state, lane->on_events})
    Py_VISIT(held);
  for (const Given& given : lane->inbox.items) Py_VISIT(static_cast<PyObject*>(given.item));
  for (std::size_t i = 0; i < lane->ready.size(); ++i) {
    Py_VISIT(static_cast<PyObject*>(lane->ready[i].hop));
    Py_VISIT(static_cast<PyObject*>(lane->ready[i].notes));
  }
  return 0;
}

void drop_hops(Lane& lane) {
  while (!lane.ready.empty()) {
    const Hop hop = lane.ready.pop();
    Py_DECREF(static_cast<PyObject*>(hop.hop));
    Py_XDECREF(static_cast<PyObject*>(hop.notes));
  }
}

int clear(Lane* lane) {
  Py_CLEAR(lane->turns);
  for (PyObject** held : {&lane->push, &lane->take, &lane->state, &lane->on_events}) Py_CLEAR(*held);
  drop_hops(*lane);
  std::vector<Given> items;
  std::vector<Gap> gaps;
  lane->inbox.take(items, gaps);
  for (const Given& given : items) Py_DECREF(static_cast<PyObject*>(given.item));
  return 0;
}

void destroy(Lane* lane) {
  PyTypeObject* type = Py_TYPE(lane);
  PyObject_GC_UnTrack(lane);
  clear(lane);
  lane->inbox.~Inbox();
  lane->ready.~Hops();
  lane->times.~Times();
  type->tp_free(lane);
  Py_DECREF(type);
}

PyObject* attach(Lane* lane, PyObject* args) {
  PyObject *turns, *push, *take, *on_events;
  long long limit;
  int live;
  if (!PyArg_ParseTuple(args, "O!OOOLp", turns_type, &turns, &push, &take, &on_events, &limit, &live)) return nullptr;
  Py_XSETREF(lane->turns, reinterpret_cast<Turns*>(Py_NewRef(turns)));
  Py_XSETREF(lane->push, Py_NewRef(push));
  Py_XSETREF(lane->take, Py_NewRef(take));
  Py_XSETREF(lane->on_events, Py_NewRef(on_events));
  lane->inbox.limit = limit, lane->inbox.live = live;
  Py_RETURN_NONE;
}

std::int64_t start_of(void* chunk) {
  Ref start(PyObject_GetAttr(static_cast<PyObject*>(chunk), names().start));
  int overflow = 0;
  const long long found = start ? PyLong_AsLongLongAndOverflow(start.get(), &overflow) : 0;
  PyErr_Clear();  // a chunk that no task would take: the gap says nothing useful then
  return found;
}

PyObject* give(Lane* lane, PyObject* item, std::int64_t arrival_ns, std::int64_t size, std::int64_t length) {
  std::vector<void*> gone;
  const bool done = lane->inbox.put({item, arrival_ns, size, length, false}, start_of, gone);
  if (done) Py_INCREF(item);
  for (void* old : gone) Py_DECREF(static_cast<PyObject*>(old));
  return PyBool_FromLong(done);
}

// push(item, arrival_ns=None): a chunk or packet; wakes the engine.
PyObject* push(Lane* lane, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
  if (count < 1 || count + named > 2 ||
      (named && PyUnicode_Compare(PyTuple_GET_ITEM(keywords, 0), names().arrival_ns) != 0)) {
    PyErr_SetString(PyExc_TypeError, "push(item, arrival_ns=None)");
    return nullptr;
  }
  Turns* turns = lane->turns;
  if (!turns) return PyErr_Format(PyExc_RuntimeError, "the lane belongs to no engine");
  if (lane->shut) return PyObject_CallNoArgs(turns->refuse);  // raises
  std::int64_t arrival_ns;
  if (count + named == 2 && args[1] != Py_None) {
    arrival_ns = PyLong_AsLongLong(args[1]);
    if (arrival_ns == -1 && PyErr_Occurred()) return nullptr;
  } else if (!now_ns(*turns, arrival_ns)) {
    return nullptr;
  }
  std::int64_t size = 1, length = -1;
  if (reinterpret_cast<PyObject*>(Py_TYPE(args[0])) == turns->chunk) {
    Ref samples(PyObject_GetAttr(args[0], names().samples));
    if (!samples) return nullptr;
    const auto* array = py::detail::array_proxy(samples.get());
    if (is_array(samples.get()) && array->nd) {
      length = array->dimensions[array->nd - 1];
      size = std::max<std::int64_t>(length, 1);
    }
  }
  Ref given(guarded([&] { return give(lane, args[0], arrival_ns, size, length); }));
  if (given && !turns->awake && !done(PyObject_CallNoArgs(turns->wake))) return nullptr;
  return given.release();
}

// put(word, arrival_ns): a word about the stream, which takes no room.
PyObject* put(Lane* lane, PyObject* args) {
  PyObject* item;
  long long arrival_ns;
  if (!PyArg_ParseTuple(args, "OL", &item, &arrival_ns)) return nullptr;
  return guarded([&] { return give(lane, item, arrival_ns, 0, -1); });
}

PyObject* add(Lane* lane, PyObject* args) {
  PyObject* hop;
  long long arrival_ns, ready_ns, deadline_ns;
  if (!PyArg_ParseTuple(args, "OLLL", &hop, &arrival_ns, &ready_ns, &deadline_ns)) return nullptr;
  Ref discont(PyObject_GetAttr(hop, names().discont));
  const int stale = discont ? PyObject_IsTrue(discont.get()) : -1;
  if (stale < 0) return nullptr;
  return guarded([&] {
    lane->ready.push({hop, arrival_ns, ready_ns, deadline_ns, nullptr, stale == 1});
    Py_INCREF(hop);
    return Py_NewRef(Py_None);
  });
}

PyObject* pop(Lane* lane, PyObject*) {
  if (lane->ready.empty()) return PyErr_Format(PyExc_IndexError, "no hop waits");
  const Hop hop = lane->ready.pop();
  const long long times[] = {hop.arrival_ns, hop.ready_ns, hop.deadline_ns};
  return Py_BuildValue("(NLLLN)", hop.hop, times[0], times[1], times[2], hop.notes ? hop.notes : PyList_New(0));
}

PyObject* note(Lane* lane, PyObject* then) {
  if (lane->ready.empty()) Py_RETURN_FALSE;
  auto*& notes = lane->ready.back().notes;
  if (!notes && !(notes = PyList_New(0))) return nullptr;
  if (PyList_Append(static_cast<PyObject*>(notes), then)) return nullptr;
  Py_RETURN_TRUE;
}

template <class Make>
PyObject* list_of(std::size_t count, Make make) {
  Ref list(PyList_New(0));
  for (std::size_t i = 0; list && i < count; ++i) {
    const Ref value(make(i));
    if (!value || PyList_Append(list.get(), value.get())) return nullptr;
  }
  return list.release();
}

PyObject* waiting_hops(Lane* lane, PyObject*) {
  return list_of(lane->ready.size(), [&](std::size_t i) { return Py_NewRef(static_cast<PyObject*>(lane->ready[i].hop)); });
}

PyObject* forget_hops(Lane* lane, PyObject*) {
  drop_hops(*lane);
  Py_RETURN_NONE;
}

PyObject* record(Lane* lane, PyObject* us) {
  const long long taken = PyLong_AsLongLong(us);
  if (taken == -1 && PyErr_Occurred()) return nullptr;
  return guarded([&] { return lane->times.add(taken), Py_NewRef(Py_None); });
}

PyObject* recorded(Lane* lane, PyObject*) {
  PyObject* list = list_of(lane->times.size(), [&](std::size_t i) { return PyLong_FromLongLong(lane->times[i]); });
  return list ? Py_BuildValue("(NL)", list, static_cast<long long>(lane->times.count)) : nullptr;
}

PyObject* first_hop(Lane* lane, void*) {
  if (lane->ready.empty()) return PyErr_Format(PyExc_IndexError, "no hop waits");
  return Py_NewRef(static_cast<PyObject*>(lane->ready.front().hop));
}
PyObject* ready_count(Lane* lane, void*) { return PyLong_FromSize_t(lane->ready.size()); }
PyObject* held(Lane* lane, void*) { return PyLong_FromLongLong(lane->inbox.held); }
PyObject* dropped(Lane* lane, void*) { return PyLong_FromLongLong(lane->inbox.dropped); }

PyMethodDef methods[] = {
    {"attach", reinterpret_cast<PyCFunction>(attach), METH_VARARGS, nullptr},
    {"push", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(push)), METH_FASTCALL | METH_KEYWORDS, nullptr},
    {"put", reinterpret_cast<PyCFunction>(put), METH_VARARGS, nullptr},
    {"add", reinterpret_cast<PyCFunction>(add), METH_VARARGS, nullptr},
    {"pop", reinterpret_cast<PyCFunction>(pop), METH_NOARGS, nullptr},
    {"note", reinterpret_cast<PyCFunction>(note), METH_O, nullptr},
    {"waiting_hops", reinterpret_cast<PyCFunction>(waiting_hops), METH_NOARGS, nullptr},
    {"forget_hops", reinterpret_cast<PyCFunction>(forget_hops), METH_NOARGS, nullptr},
    {"record", reinterpret_cast<PyCFunction>(record), METH_O, nullptr},
    {"recorded", reinterpret_cast<PyCFunction>(recorded), METH_NOARGS, nullptr},
    {}};

PyGetSetDef properties[] = {{"hop", reinterpret_cast<getter>(first_hop), nullptr, nullptr, nullptr},
                            {"ready", reinterpret_cast<getter>(ready_count), nullptr, nullptr, nullptr},
                            {"held", reinterpret_cast<getter>(held), nullptr, nullptr, nullptr},
                            {"dropped", reinterpret_cast<getter>(dropped), nullptr, nullptr, nullptr},
                            {}};

#define OSSICLE_MEMBER(name, kind) {#name, kind, offsetof(PlainLane, name), 0, nullptr}
PyMemberDef members[] = {OSSICLE_MEMBER(state, T_OBJECT),      OSSICLE_MEMBER(on_events, T_OBJECT),
                         OSSICLE_MEMBER(closed, T_BOOL),       OSSICLE_MEMBER(shut, T_BOOL),
                         OSSICLE_MEMBER(ending, T_BOOL),       OSSICLE_MEMBER(bypass, T_BOOL),
                         OSSICLE_MEMBER(hops, T_LONGLONG),     OSSICLE_MEMBER(misses, T_LONGLONG),
                         OSSICLE_MEMBER(gaps, T_LONGLONG),     OSSICLE_MEMBER(bad_hops, T_LONGLONG),
                         OSSICLE_MEMBER(latency, T_LONGLONG),  OSSICLE_MEMBER(deadline_ns, T_LONGLONG),
                         OSSICLE_MEMBER(group, T_LONGLONG),    OSSICLE_MEMBER(period_ns, T_LONGLONG),
                         {}};

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, properties},
                       {Py_tp_members, members},
                       {}};

PyType_Spec spec = {"ossicle._core.Lane", sizeof(Lane), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

void bind_lane(py::module_& m) {
  lane_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!lane_type) throw py::error_already_set();
  m.add_object("Lane", reinterpret_cast<PyObject*>(lane_type));
}

}  // namespace ossicle::engine
