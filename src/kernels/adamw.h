/* SPDX-License-Identifier: MIT
 * The numbers of one step of AdamW [Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, lines 9 to 12]. */
#ifndef LB_KERNELS_ADAMW_H
#define LB_KERNELS_ADAMW_H

typedef struct lb_adamw_step {
    float scale; /* of the gradient: clipping */
    float beta1, beta2;
    float keep; /* 1 - rate * weight decay: what is left of a weight */
    float rate; /* rate / (1 - beta1^t) */
    float root; /* 1 / sqrt(1 - beta2^t) */
    float eps;
} lb_adamw_step;

#endif
