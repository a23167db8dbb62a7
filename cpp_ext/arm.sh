#!/bin/sh
# Builds the C++ tests for 64-bit ARM and runs them in an emulator: sh cpp_ext/arm.sh [build folder]
# Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static
set -eu
root=$(cd "$(dirname "$0")" && pwd)
build=${1:-$root/../build/tests-arm}
libraries=${OSSICLE_ARM_ROOT:-/usr/aarch64-linux-gnu}
cmake -S "$root" -B "$build" -DOSSICLE_PYTHON=OFF -DOSSICLE_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER="${OSSICLE_ARM_CXX:-aarch64-linux-gnu-g++}" >/dev/null
cmake --build "$build" --parallel "${OSSICLE_JOBS:-2}" >/dev/null
# Without and with the dot product: Jetson TX2 or Raspberry Pi 4, and everything newer (Orin).
for cpu in cortex-a57 max; do
  for test in "$build"/test_*; do
    qemu-aarch64-static -L "$libraries" -cpu "$cpu" "$test" || { echo "$cpu: $(basename "$test") failed"; exit 1; }
    echo "$cpu: $(basename "$test") passed"
  done
done
