/* SPDX-License-Identifier: MIT
 * A whole layer of integers in memory, and bits of it packed the ways that other tools have. */
#ifndef LB_EXPORT_INT_LAYER_H
#define LB_EXPORT_INT_LAYER_H

#include "export/source.h"

/* value [r][k] = scale [r][g] * (code [r][k] - zero [r][g]), g = k / group. */
typedef struct lb_int_layer {
    size_t rows, cols, group, groups;
    unsigned bits;
    uint8_t *codes; /* [rows, cols] */
    uint8_t *zeros; /* [rows, groups] */
    uint16_t *scales; /* f16 [rows, groups] */
} lb_int_layer;

/* What a layer of integers is called by tools that know three numbers. */
typedef struct lb_int_scheme {
    unsigned bits;
    size_t group; /* 0: a row */
    bool symmetric; /* all zeros are 2^(bits-1) */
} lb_int_scheme;

/* The scheme of a format; LB_EUNSUPPORTED where it is none of integers. `kind` is for the message. */
lb_status lb_int_scheme_of(const lb_weight *weight, const char *kind, lb_int_scheme *out, lb_error *err);

/* Whether its scales are f16, as all of these tools have them: LB_EUNSUPPORTED where one is not. */
lb_status lb_int_check_scales(const lb_weight *weight, lb_error *err);

/* Codes in `bits` bits (at least those of the format; zeros of symmetric formats move along). LB_EUNSUPPORTED where a
 * scale is no f16. lb_int_layer_free. */
lb_status lb_int_layer_read(const lb_weight *weight, unsigned bits, lb_int_layer *out, lb_error *err);
void lb_int_layer_free(lb_int_layer *layer);

/* [rows, groups] -> [groups, rows]. */
void lb_int_layer_scales_across(const lb_int_layer *layer, uint16_t *out);

#endif
