// The instruction sets that this build holds: OSSICLE_EACH_ISA(X) is X(name) for each.
#pragma once

#ifdef OSSICLE_HAS_avx2
#define OSSICLE_X86_ISAS(X) X(avx2) X(avx512) X(avx512bf16)
#else
#define OSSICLE_X86_ISAS(X)
#endif
#ifdef OSSICLE_HAS_amx
#define OSSICLE_TILE_ISAS(X) X(amx)
#else
#define OSSICLE_TILE_ISAS(X)
#endif
#ifdef OSSICLE_HAS_neondot
#define OSSICLE_ARM_ISAS(X) X(neondot)
#else
#define OSSICLE_ARM_ISAS(X)
#endif
#define OSSICLE_EACH_ISA(X) X(base) OSSICLE_X86_ISAS(X) OSSICLE_TILE_ISAS(X) OSSICLE_ARM_ISAS(X)
