/* SPDX-License-Identifier: MIT
 * What is inside an lb_qvec (qmat.h), for the files that multiply by one. */
#ifndef LB_KERNELS_QVEC_H
#define LB_KERNELS_QVEC_H

#include "kernels/qmat.h"

struct lb_qvec {
    size_t max_cols, cols; /* cols: as last set */
    bool halves; /* a scale per 16 entries, otherwise per 32 */
    int8_t *codes; /* [blocks * 32], zero beyond cols */
    float *scales; /* [blocks * 2] */
    int32_t *code_sums; /* [blocks * 2] */
    float *sums; /* [blocks] */
};

#endif
