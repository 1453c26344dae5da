/* SPDX-License-Identifier: MIT
 *
 * MX formats (OCP Microscaling v1.0, and arXiv:2510.25602 for int6 and int4): blocks of 32 elements with a
 * power of two as their scale, stored as E8M0: a byte c stands for 2^(c - 127), 255 for NaN.
 *
 *   mxfp8-e4m3 mxfp8-e5m2 mxfp6-e2m3 mxfp6-e3m2 mxfp4 mxint8 mxint6 mxint4
 *
 * A suffix chooses another scale rule (block_format.h): -ocp -even -round -floor -exact. -asym lets integers use
 * their whole two's complement range; without it they stop at -max, as the paper asks. The scale of an
 * integer format is that of one integer step (OCP's MXINT8 counts in 64ths: 64 times that).
 */
#ifndef LB_FORMATS_MX_H
#define LB_FORMATS_MX_H

#include "formats/format.h"

extern const lb_format_ops lb_mx_format;

#endif
