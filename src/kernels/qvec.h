/* SPDX-License-Identifier: MIT
 * What is inside an lb_qvec (qmat.h), for the files that multiply by one. */
#ifndef LB_KERNELS_QVEC_H
#define LB_KERNELS_QVEC_H

#include "kernels/qmat.h"

struct lb_qvec {
    size_t max_count, max_cols, blocks; /* blocks of 32 that max_cols entries take */
    size_t count, cols; /* as last set */
    const float *x; /* [count, cols] as last set; NULL when set from a format */
    bool halves; /* a scale per 16 entries, otherwise per 32 */
    bool has_tables; /* of x */
    /* Each [max_count] times */
    int8_t *codes; /* [blocks * 32], zero beyond cols */
    float *scales; /* [blocks * 2] */
    int32_t *code_sums; /* [blocks * 2] */
    float *sums; /* [blocks] */
    uint8_t *tables; /* [blocks * 2] units */
    float *table_scales; /* [blocks] */
    int32_t *table_sums; /* [blocks * 2] */
};

/* The 8-bit codes of one of them. */
lb_qvec_view lb_qvec_codes(const lb_qvec *vectors, size_t index);
/* Its sums of subsets, made by lb_qvec_make_sums unless they are there already. */
lb_sums_view lb_qvec_sums(const lb_qvec *vectors, size_t index);
void lb_qvec_make_sums(const lb_kernels *kernels, lb_qvec *vectors);

#endif
