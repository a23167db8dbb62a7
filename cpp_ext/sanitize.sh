#!/bin/sh
# Builds and runs the C++ tests: sh cpp_ext/sanitize.sh none|address,undefined|thread [build folder]
set -eu
root=$(cd "$(dirname "$0")" && pwd)
kind=${1:?none, address,undefined or thread}
build=${2:-$root/../build/tests-$(echo "$kind" | tr , -)}
[ "$kind" = none ] && flags= || flags=$kind
cmake -S "$root" -B "$build" -DOSSICLE_PYTHON=OFF -DOSSICLE_TESTS=ON "-DOSSICLE_SANITIZE=$flags" >/dev/null
cmake --build "$build" --parallel "${OSSICLE_JOBS:-2}" >/dev/null
ctest --test-dir "$build" --output-on-failure
