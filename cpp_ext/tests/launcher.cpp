// Without a driver the launcher says so and leaks nothing.
#include <cstdio>
#include <stdexcept>

#include "check.hpp"
#include "launcher.hpp"

int main() {
  char name[] = "/tmp/ossicle-cubin-XXXXXX";
  const int file = mkstemp(name);
  CHECK(file >= 0);
  std::FILE* f = fdopen(file, "wb");
  std::fputs("\x7f" "ELF and more", f);
  std::fclose(f);
  for (const char* cubin : {static_cast<const char*>(name), "/nonexistent.cubin"}) {
    bool refused = false;
    try {
      ossicle::CubinLauncher launcher(cubin, "libcuda-of-nobody.so");
    } catch (const std::runtime_error&) {
      refused = true;
    }
    CHECK(refused);
  }
  std::remove(name);
}
