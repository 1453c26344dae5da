/* SPDX-License-Identifier: MIT
 *
 * NV formats: blocks of 16 elements whose scale has two levels, an E4M3 factor of the block and a float of
 * the whole tensor (arXiv:2510.25602 section 2; NVFP4 as in NVIDIA's published checkpoints).
 *
 *   nvfp4 (E2M1)   nvint4 (integers -7 .. 7, the paper's)
 *
 *   tensor = amax of the tensor / (max * 448);   block = E4M3(amax of the block / max / tensor)
 *
 * The tensor's float has to be known before a block can be rounded: lb_format_bind. Rounding the block factor
 * may round it down, so the largest element can saturate; a block below 2^-10 of the tensor's largest value is
 * all zeros. Suffixes: -exact (one float per block instead of the two levels), -asym (nvint4).
 */
#ifndef LB_FORMATS_NV_H
#define LB_FORMATS_NV_H

#include "formats/format.h"

extern const lb_format_ops lb_nv_format;

#endif
