#!/bin/sh
# Builds the compiled part and puts it where `PYTHONPATH=src` finds it: sh cpp_ext/dev_build.sh [python]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
cmake -S "$root/cpp_ext" -B "$root/build/dev" -G "$(command -v ninja >/dev/null && echo Ninja || echo 'Unix Makefiles')" \
  -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$python" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" >/dev/null
cmake --build "$root/build/dev" --parallel "${OSSICLE_JOBS:-2}"
# Renamed into place: a process that has the old one loaded keeps it.
for built in "$root"/build/dev/_core*.so; do
  cp "$built" "$root/src/ossicle/.$(basename "$built").new"
  mv -f "$root/src/ossicle/.$(basename "$built").new" "$root/src/ossicle/$(basename "$built")"
done
