/* SPDX-License-Identifier: MIT
 * The vendor's intrinsics of aarch64; or, with LB_SIMDE, SIMDe's portable versions of them, so that the NEON sources
 * can be checked elsewhere (tests/kernels/simde_*_neon.c). What SIMDe 0.7.4 lacks is made up for here. */
#ifndef LB_KERNELS_ARM_NEON_H
#define LB_KERNELS_ARM_NEON_H

#ifndef LB_SIMDE

#include <arm_neon.h>
#define LB_INLINE static inline __attribute__((always_inline))

#else

/* Emulated registers are passed between inlined functions only. */
#pragma GCC diagnostic ignored "-Wpsabi"
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

#define vcvtnq_s32_f32(a) vcvtq_s32_f32(vrndnq_f32(a))
#define LB_INLINE static inline

#endif

#endif
