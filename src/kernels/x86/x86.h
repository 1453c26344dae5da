/* SPDX-License-Identifier: MIT
 * Each of these overrides some entries of a table with kernels of its instruction set. Calling them is
 * always safe; calling what they put into the table needs the processor. */
#ifndef LB_KERNELS_X86_X86_H
#define LB_KERNELS_X86_X86_H

#include "kernels/kernels.h"

void lb_fill_qmat_avx2(lb_kernels *table);
void lb_fill_dense_avx2(lb_kernels *table);
void lb_fill_block_codec_avx2(lb_kernels *table);
void lb_fill_hadamard_avx2(lb_kernels *table);
void lb_fill_planes_avx2(lb_kernels *table);
void lb_fill_high_avx2(lb_kernels *table);
void lb_fill_rows_avx2(lb_kernels *table);
void lb_fill_qmat_avx512(lb_kernels *table);
void lb_fill_rows_avx512(lb_kernels *table);
void lb_fill_block_codec_avx512(lb_kernels *table);
void lb_fill_hadamard_avx512(lb_kernels *table);
void lb_fill_planes_avx512(lb_kernels *table);
void lb_fill_high_avx512(lb_kernels *table);
void lb_fill_qmat_avx512vnni(lb_kernels *table);
void lb_fill_high_avx512vnni(lb_kernels *table);

#endif
