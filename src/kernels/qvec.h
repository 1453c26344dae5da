/* SPDX-License-Identifier: MIT
 * What is inside an lb_qvec (qmat.h), for the files that multiply by one. */
#ifndef LB_KERNELS_QVEC_H
#define LB_KERNELS_QVEC_H

#include "kernels/qmat.h"

struct lb_qvec {
    size_t max_cols, cols; /* cols: as last set */
    const float *x; /* as last set; NULL when set from a format */
    bool halves; /* a scale per 16 entries, otherwise per 32 */
    int8_t *codes; /* [blocks * 32], zero beyond cols */
    float *scales; /* [blocks * 2] */
    int32_t *code_sums; /* [blocks * 2] */
    float *sums; /* [blocks] */
    bool has_tables; /* of x; what lb_sums_view wants */
    uint8_t *tables;
    float *table_scales;
    int32_t *table_sums;
};

/* Its 8-bit codes. */
lb_qvec_view lb_qvec_codes(const lb_qvec *vector);
/* Its sums of subsets, made by lb_qvec_make_sums unless they are there already. */
lb_sums_view lb_qvec_sums(const lb_qvec *vector);
void lb_qvec_make_sums(const lb_kernels *kernels, lb_qvec *vector);

#endif
