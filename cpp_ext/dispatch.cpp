// Which instruction set runs: the best this processor has, asked once.
#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(OSSICLE_HAS_amx)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "isas.hpp"
#include "table.hpp"

namespace ossicle {
#define OSSICLE_DECLARE(isa) \
  namespace isa_##isa {      \
  extern const Table functions; \
  }
OSSICLE_EACH_ISA(OSSICLE_DECLARE)

namespace {

struct Offer {
  const Table* table;
  bool (*runs)();
};

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
// Zen 4, Sapphire Rapids and later; what has products of bf16 but no shuffles of single bytes goes without either.
bool has_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
}
#endif

#if defined(OSSICLE_HAS_amx)
// Tiles need the processor, the kernel's support for their state, and leave for this process to use it
// (Linux 5.16: Documentation/arch/x86/xstate.rst); asked for once, refused for good.
bool ask_for_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!has_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8)) return false;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return false;  // OSXSAVE: xgetbv may be asked
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kStates = (1u << 17) | (1u << 18);  // tile shapes, tile data
  if ((low & kStates) != kStates) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
bool has_tiles() {
  static const bool has = ask_for_tiles();
  return has;
}
#endif

#if defined(__aarch64__)
bool has_dot() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) >> 20) & 1;  // HWCAP_ASIMDDP
#else
  return true;  // every Apple processor has it
#endif
}
#endif

constexpr Offer kOffers[] = {  // best first
#ifdef OSSICLE_HAS_amx
    {&isa_amx::functions, has_tiles},
#endif
#ifdef OSSICLE_HAS_avx2
    {&isa_avx512bf16::functions, has_bf16},
    {&isa_avx512::functions, has_avx512},
    {&isa_avx2::functions, has_avx2},
#endif
#ifdef OSSICLE_HAS_neondot
    {&isa_neondot::functions, has_dot},
#endif
    {&isa_base::functions, [] { return true; }},
};

const Table* best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  for (const Offer& offer : kOffers)
    if (offer.runs()) return offer.table;
  return &isa_base::functions;
}

std::atomic<const Table*>& chosen() {
  static std::atomic<const Table*> value{best()};
  return value;
}

}  // namespace

const Table& table() { return *chosen().load(std::memory_order_relaxed); }

bool choose(const char* name) {
  for (const Offer& offer : kOffers)
    if (!std::strcmp(offer.table->name, name) && offer.runs()) {
      chosen().store(offer.table);
      return true;
    }
  return false;
}

std::size_t offered(const char** names, std::size_t room) {
  std::size_t n = 0;
  for (const Offer& offer : kOffers)
    if (offer.runs() && n < room) names[n++] = offer.table->name;
  return n;
}

}  // namespace ossicle
