// The functions of one instruction set, by name.
#include "kernels.hpp"

namespace ossicle::OSSICLE_NS {
extern const Table functions;
#define OSSICLE_TEXT2(a) #a
#define OSSICLE_TEXT(a) OSSICLE_TEXT2(a)
#if defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD)
constexpr bool kIntegerDot = true;
#else
constexpr bool kIntegerDot = false;
#endif
const Table functions = {OSSICLE_TEXT(OSSICLE_ISA), OSSICLE_LANES, kIntegerDot, OSSICLE_SEARCH_TILE, search, sum_rows, gemm,
                         attend, snake, narrow, combine, gru_gates, log_mel};
}  // namespace ossicle::OSSICLE_NS
