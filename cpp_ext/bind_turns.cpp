// What the engine does for every ready stream of a round, in one call each: take in, choose, gather, deliver.
//
// Only the straight path is here. Whatever is rare (words about a stream, faults, the end) goes to the engine's own
// Python, which is also the twin of all of this.
#include "engine_objects.hpp"

#include <structmember.h>

#include <ctime>

namespace ossicle::engine {

PyTypeObject* turns_type = nullptr;

const Names& names() {
  static const Names made{PyUnicode_InternFromString("samples"),   PyUnicode_InternFromString("start"),
                          PyUnicode_InternFromString("inputs"),    PyUnicode_InternFromString("discont"),
                          PyUnicode_InternFromString("after_gap"), PyUnicode_InternFromString("arrival_ns")};
  return made;
}

bool now_ns(Turns& turns, std::int64_t& ns) {
#ifdef __linux__
  if (turns.monotonic) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
    return true;
  }
#endif
  Ref now(PyObject_CallNoArgs(turns.clock));
  ns = now ? PyLong_AsLongLong(now.get()) : -1;
  return ns != -1 || !PyErr_Occurred();
}

namespace {

constexpr std::size_t kReadyHops = 4;  // ready and waiting; more audio stays in the inbox

// What a task makes of one item.
Ref hops_of(Turns& turns, Lane& lane, const Given& given) {
  Ref item = Ref::to(static_cast<PyObject*>(given.item));
  auto* self = reinterpret_cast<PyObject*>(&lane);
  if (!given.size) return Ref(call(turns.heed, self, item.get()));
  if (reinterpret_cast<PyObject*>(Py_TYPE(item.get())) != turns.chunk) return Ref(call(lane.push, lane.state, item.get()));
  if (given.after_gap) item = Ref(PyObject_CallMethodNoArgs(item.get(), names().after_gap));
  if (!item) return item;
  const Ref samples(PyObject_GetAttr(item.get(), names().samples));
  if (!samples) return Ref();
  if (!sound(samples.get())) item = Ref(call(turns.scrubbed, item.get()));
  return item ? Ref(call(lane.push, lane.state, item.get())) : Ref();
}

bool queue(Turns& turns, Lane& lane, PyObject* made, std::int64_t arrival_ns) {
  const Ref hops(PySequence_Fast(made, "a task returns a list of hops"));
  if (!hops) return fail(turns, lane);
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(hops.get());
  if (!count) return !lane.ending || !lane.ready.empty() || done(call(turns.finish, reinterpret_cast<PyObject*>(&lane)));
  std::int64_t now;
  if (!now_ns(turns, now)) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* hop = PySequence_Fast_GET_ITEM(hops.get(), i);
    const Ref discont(PyObject_GetAttr(hop, names().discont));
    const int stale = discont ? PyObject_IsTrue(discont.get()) : -1;
    if (stale < 0) return fail(turns, lane);
    lane.ready.push({hop, arrival_ns, now, arrival_ns + lane.deadline_ns, nullptr, stale == 1});
    Py_INCREF(hop);
  }
  return true;
}

// What was taken out of an inbox, given back one by one.
struct Taken {
  std::vector<Given> items;
  std::vector<Gap> gaps;
  std::size_t next = 0;

  ~Taken() {
    while (next < items.size()) Py_DECREF(static_cast<PyObject*>(items[next++].item));
  }
};

bool say_lost(Turns& turns, Lane& lane, const std::vector<Gap>& gaps) {
  const Ref list(PyList_New(0));
  for (const Gap& gap : gaps) {
    const Ref pair(Py_BuildValue("(LL)", static_cast<long long>(gap.start), static_cast<long long>(gap.stop)));
    if (!list || !pair || PyList_Append(list.get(), pair.get())) return false;
  }
  return list && done(call(turns.lost, reinterpret_cast<PyObject*>(&lane), list.get()));
}

bool take_in_one(Turns& turns, Lane& lane) {
  Taken taken;
  lane.inbox.take(taken.items, taken.gaps);
  if (!taken.gaps.empty() && !say_lost(turns, lane, taken.gaps)) return false;
  while (taken.next < taken.items.size() && !lane.closed) {
    const Given given = taken.items[taken.next++];
    const Ref item(static_cast<PyObject*>(given.item));
    const Ref made = hops_of(turns, lane, given);
    if (!(made ? queue(turns, lane, made.get(), given.arrival_ns) : fail(turns, lane)) || pause(turns) < 0) return false;
  }
  if (lane.inbox.items.capacity() == 0 && taken.next == taken.items.size())  // its memory, for the next time
    taken.items.clear(), lane.inbox.items.swap(taken.items);
  return true;
}

// take_in(lanes, everything): feed the tasks what came.
PyObject* take_in(Turns* turns, PyObject* args) {
  PyObject* lanes;
  int everything;
  if (!PyArg_ParseTuple(args, "O!p", &PyList_Type, &lanes, &everything)) return nullptr;
  return guarded([&]() -> PyObject* {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lanes); ++i) {
      const Ref held = Ref::to(PyList_GET_ITEM(lanes, i));
      Lane* lane = lane_of(held.get());
      if (!lane) return nullptr;
      if (!lane->inbox.waiting() || lane->closed || lane->ending) continue;
      if (lane->ready.size() > kReadyHops && !everything) continue;
      if (!take_in_one(*turns, *lane)) return nullptr;
    }
    return Py_NewRef(Py_None);
  });
}

// pause(): between two streams of what is not done here; whether it let others run.
PyObject* pause_now(Turns* turns, PyObject*) {
  const int paused = pause(*turns);
  return paused < 0 ? nullptr : PyBool_FromLong(paused);
}

// choose(lanes): those with a hop of the most urgent one's group, urgent first; `stale` says whether samples were lost
// before any of these hops.
PyObject* choose(Turns* turns, PyObject* lanes) {
  if (!PyList_Check(lanes)) return PyErr_Format(PyExc_TypeError, "a list of lanes is expected");
  return guarded([&]() -> PyObject* {
    std::vector<std::pair<std::int64_t, Lane*>> waiting;
    waiting.reserve(static_cast<std::size_t>(PyList_GET_SIZE(lanes)));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lanes); ++i) {
      Lane* lane = lane_of(PyList_GET_ITEM(lanes, i));
      if (!lane) return nullptr;
      if (!lane->ready.empty()) waiting.emplace_back(lane->ready.front().deadline_ns, lane);
    }
    std::stable_sort(waiting.begin(), waiting.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::size_t count = 0;
    turns->stale = false;
    for (const auto& [deadline_ns, lane] : waiting) {
      const Lane* first = waiting[0].second;
      if (lane->group != first->group || lane->bypass != first->bypass) continue;
      turns->stale |= lane->ready.front().discont;
      waiting[count++].second = lane;
    }
    Ref list(PyList_New(static_cast<Py_ssize_t>(count)));
    for (std::size_t i = 0; list && i < count; ++i)
      PyList_SET_ITEM(list.get(), i, Py_NewRef(reinterpret_cast<PyObject*>(waiting[i].second)));
    return list.release();
  });
}

template <class Visit>
void each_reference(Turns& turns, Visit visit) {
  for (PyObject** held : {&turns.clock, &turns.wake, &turns.chunk, &turns.ledger, &turns.scrubbed, &turns.refuse,
                          &turns.heed, &turns.lost, &turns.post, &turns.fail, &turns.finish, &turns.breathe})
    visit(*held);
}

int set_clock(Turns* turns, PyObject* clock, void*) {
  if (!clock) return PyErr_SetString(PyExc_TypeError, "a clock is needed"), -1;
  const Ref time(PyImport_ImportModule("time"));
  const Ref monotonic(time ? PyObject_GetAttrString(time.get(), "monotonic_ns") : nullptr);
  if (!monotonic) return -1;
  turns->monotonic = clock == monotonic.get();
  Py_XSETREF(turns->clock, Py_NewRef(clock));
  return 0;
}

PyObject* get_clock(Turns* turns, void*) { return Py_NewRef(turns->clock); }

PyObject* make(PyTypeObject* type, PyObject* args, PyObject*) {
  Ref self(type->tp_alloc(type, 0));
  auto* turns = reinterpret_cast<Turns*>(self.get());
  if (!turns) return nullptr;
  if (!PyArg_ParseTuple(args, "OOOOOOOOOOOO:Turns", &turns->clock, &turns->wake, &turns->chunk, &turns->ledger,
                        &turns->scrubbed, &turns->refuse, &turns->heed, &turns->lost, &turns->post, &turns->fail,
                        &turns->finish, &turns->breathe)) {
    each_reference(*turns, [](PyObject*& held) { held = nullptr; });  // borrowed
    return nullptr;
  }
  each_reference(*turns, [](PyObject* held) { Py_INCREF(held); });
  turns->hold_ns = -1;
  return set_clock(turns, turns->clock, nullptr) ? nullptr : self.release();
}

int traverse(Turns* turns, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(turns));
  int stop = 0;
  each_reference(*turns, [&](PyObject* held) {
    if (held && !stop) stop = visit(held, arg);
  });
  return stop;
}

int clear(Turns* turns) {
  each_reference(*turns, [](PyObject*& held) { Py_CLEAR(held); });
  return 0;
}

void destroy(Turns* turns) {
  PyTypeObject* type = Py_TYPE(turns);
  PyObject_GC_UnTrack(turns);
  clear(turns);
  type->tp_free(turns);
  Py_DECREF(type);
}

PyMethodDef methods[] = {{"take_in", reinterpret_cast<PyCFunction>(take_in), METH_VARARGS, nullptr},
                         {"choose", reinterpret_cast<PyCFunction>(choose), METH_O, nullptr},
                         {"gather", reinterpret_cast<PyCFunction>(gather), METH_VARARGS, nullptr},
                         {"pause", reinterpret_cast<PyCFunction>(pause_now), METH_NOARGS, nullptr},
                         {"deliver", reinterpret_cast<PyCFunction>(deliver), METH_VARARGS, nullptr},
                         {}};
PyGetSetDef properties[] = {
    {"clock", reinterpret_cast<getter>(get_clock), reinterpret_cast<setter>(set_clock), nullptr, nullptr}, {}};
PyMemberDef members[] = {{"awake", T_BOOL, offsetof(Turns, awake), 0, nullptr},
                         {"stale", T_BOOL, offsetof(Turns, stale), READONLY, nullptr},
                         {"since", T_LONGLONG, offsetof(Turns, since), 0, nullptr},
                         {"hold_ns", T_LONGLONG, offsetof(Turns, hold_ns), 0, nullptr},
                         {}};
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(clear)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, properties},
                       {Py_tp_members, members},
                       {}};
PyType_Spec spec = {"ossicle._core.Turns", sizeof(Turns), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

void bind_turns(py::module_& m) {
  turns_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!turns_type) throw py::error_already_set();
  m.add_object("Turns", reinterpret_cast<PyObject*>(turns_type));
}

}  // namespace ossicle::engine
