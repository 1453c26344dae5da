/* SPDX-License-Identifier: MIT
 *
 * What the inputs of linear layers may be rounded to: any number format, or SQ-format's two (arXiv:2512.05409). There
 * every bank of B neighbouring channels has exactly (1 - S) * B channels in high precision, the others in low, and a
 * token has one scale for all its high numbers and one for its low ones:
 *
 *   sqH/L-bB-sS            the same channels for all tokens, chosen by calibration
 *   sqH/L-bB-sS-dynamic    of each token the largest magnitudes of each bank
 */
#ifndef LB_FORMATS_ACT_FORMAT_H
#define LB_FORMATS_ACT_FORMAT_H

#include "formats/format.h"

typedef struct lb_act {
    char name[LB_FORMAT_NAME_BYTES]; /* canonical */
    lb_format format; /* of all channels; of the low ones where there are banks */
    lb_format high; /* with banks: of the high ones */
    size_t bank, high_per_bank; /* 0: no banks */
    bool dynamic;
} lb_act;

lb_status lb_act_parse(const char *name, lb_act *out, lb_error *err);

/* f32: nothing is rounded. */
bool lb_act_keeps(const lb_act *act);

/* Whether calibration chooses channels, which are then put in the order [high | low]. */
bool lb_act_masks(const lb_act *act);

/* High channels of `cols`, which banks must divide. */
size_t lb_act_high_channels(const lb_act *act, size_t cols);

#endif
