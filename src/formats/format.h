/* SPDX-License-Identifier: MIT
 *
 * What a number format is, to everything that uses one.
 *
 * A format cuts a row of weights into groups along the input dimension. A group has parameters (a
 * scale and a zero point, say), which say which real values its elements may take, and an element
 * has a code, which says which of them it takes. Four operations are enough for most methods:
 *
 *   fit    weights and their importance -> parameters of the group
 *   round  parameters, weights          -> codes of the nearest values
 *   value  parameters, codes            -> the values
 *   pack   codes, parameters            -> bytes, and back (unpack)
 *
 * and a fifth, tune (tune.h), for those that learn how to round; and for those that fit values to chosen codes, what
 * values are linear in (linear_format.h). Where elements of a group differ in kind, their kinds are chosen first
 * (kinds.h).
 *
 * Methods see this interface only: they know no format by name. Formats know no method.
 * The last group of a row is short where the group size does not divide the row.
 */
#ifndef LB_FORMATS_FORMAT_H
#define LB_FORMATS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct lb_element; /* element.h */
struct lb_tune_ops; /* tune.h */
struct lb_linear_format_ops; /* linear_format.h */
struct lb_kinds_ops; /* kinds.h */

enum {
    LB_FORMAT_NAME_BYTES = 32,
    LB_FORMAT_MAX_PARAMS = 34, /* floats that describe one group */
    LB_FORMAT_MAX_PARTS = 4 /* byte arrays that a packed row consists of */
};

/* How `fit` chooses. */
typedef enum lb_fit {
    LB_FIT_RANGE, /* from the group's extremes alone */
    LB_FIT_SEARCH /* the candidate with the least importance-weighted squared error */
} lb_fit;

/* How the scale of a block follows from its largest magnitude amax (block formats only; block_format.h). */
typedef enum lb_scale_rule {
    LB_SCALE_CEIL, /* MX: 2^ceil(log2(amax / max)): nothing is clipped. The paper's rule, and the default */
    LB_SCALE_OCP, /* MX: 2^(floor(log2 amax) - exponent of max): the top of a binade may be clipped */
    LB_SCALE_EVEN, /* MX: amax is rounded to the element's fraction bits first, then as OCP */
    LB_SCALE_ROUND, /* MX: 2^round(log2(amax / max)); clips much, for comparison only */
    LB_SCALE_FLOOR, /* MX: 2^floor(log2(amax / max)); clips more, for comparison only */
    LB_SCALE_EXACT, /* amax / max as a float: what a scale without rounding would give */
    LB_SCALE_TWO_LEVEL /* NV: E4M3(amax / max / tensor) * tensor */
} lb_scale_rule;

typedef struct lb_format lb_format;

/* One of the byte arrays that a packed row consists of. */
typedef struct lb_format_part {
    const char *name; /* "codes", "scales": the tensor's suffix in a checkpoint */
    unsigned elem_bytes; /* 1: packed bits or 8-bit floats; 2: f16; 4: f32 */
    size_t row_bytes;
} lb_format_part;

typedef struct lb_format_ops {
    const char *family; /* "int" */
    const char *syntax; /* for messages: "intB-gG, B = 2..8, ..." */

    /* Fills *out and returns true when `name` belongs to this family and is well formed. */
    bool (*parse)(const char *name, lb_format *out);
    /* LB_EINVAL with the reason where a name has this family's shape but is none; NULL: nothing more to say. */
    lb_status (*refuse)(const char *name, lb_error *err);
    bool whole_groups; /* a row has no short last group: lb_format_check_cols */

    /* The float > 0 that all groups of the tensor w [n] share; NULL: there is none. See lb_format_bind. */
    float (*tensor_scale)(const lb_format *format, const float *w, size_t n);

    /* w [n], importance [n] (> 0) or NULL for equal weights -> params [format->params]. */
    void (*fit)(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                float *params);
    /* codes [n] hold codes of the elements' kinds where the format has kinds. */
    /* Of elements from the first of params' group on; or, of params that lb_format_grid gave, from the first of their
     * grid on, or of one alone. */
    void (*round)(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes);
    void (*value)(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w);

    /* Storage: the byte arrays that a row of `cols` weights consists of; returns how many. Part 0 is
     * always the codes. */
    unsigned (*parts)(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS]);
    void (*pack)(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                 uint8_t *const *parts);
    /* Checks what it reads: a scale that is not finite is LB_EFORMAT. */
    lb_status (*unpack)(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                        float *params, lb_error *err);

    const struct lb_tune_ops *tune; /* rounding that is learned by gradients */
    const struct lb_linear_format_ops *linear; /* values that are linear in coefficients */
    const struct lb_kinds_ops *kinds; /* elements of two kinds */
} lb_format_ops;

struct lb_format {
    char name[LB_FORMAT_NAME_BYTES]; /* canonical */
    const lb_format_ops *ops; /* NULL for f32, f16 and bf16: stored as they are */
    unsigned bits; /* bits of a code */
    size_t group; /* elements a group; 0: the whole row */
    bool symmetric;
    unsigned params; /* floats that describe one group, at most LB_FORMAT_MAX_PARAMS */
    /* Block formats (block_format.h) only: */
    const struct lb_element *element; /* NULL for all others */
    lb_scale_rule rule;
    float tensor_scale; /* 1 until it is bound */
    /* Formats with several grids in a group (k_blocks.h) only: */
    size_t grid; /* elements of one; 0: the whole group */
    unsigned grid_params; /* floats from one grid's parameters to the next one's */
    /* Formats with elements of two kinds (kinds.h) only: */
    unsigned low_bits, high_bits;
    size_t high_count; /* of a group's elements */
    bool masked; /* stored with a bit for each element, not with sentinels */
};

/* The format of that name; LB_EINVAL with the list of what there is. */
lb_status lb_format_parse(const char *name, lb_format *out, lb_error *err);

/* f32, f16 and bf16 are formats too: "leave this layer alone". */
bool lb_format_is_float(const lb_format *format);
/* f32, or a zeroed descriptor: values stay exactly as they are. */
bool lb_format_keeps(const lb_format *format);

/* Where all groups of a tensor share a float, fills it in from the tensor's values w [n]: to be done before
 * any of them is encoded. Of a stored tensor the float is stored too ("NAME.tensor_scale", one f32). */
bool lb_format_has_tensor_scale(const lb_format *format);
void lb_format_bind(lb_format *format, const float *w, size_t n);

/* LB_EINVAL unless rows of `cols` can be cut into groups; `what` (a layer's name) is for the message. */
lb_status lb_format_check_cols(const lb_format *format, size_t cols, const char *what, lb_error *err);

/* Groups in a row of `cols`, and the size of group g. */
size_t lb_format_groups(const lb_format *format, size_t cols);
size_t lb_format_group_size(const lb_format *format, size_t cols, size_t g);

/* Bytes of a row as stored, parameters included. */
size_t lb_format_row_bytes(const lb_format *format, size_t cols);
/* Bytes of a tensor as stored: its rows, and what they share. */
uint64_t lb_format_tensor_bytes(const lb_format *format, size_t rows, size_t cols);

/* What the element in a column of a row is rounded by: its group's params, or from its grid's on. Elements of other
 * grids need another call. */
static inline const float *lb_format_grid(const lb_format *format, const float *params, size_t column)
{
    return format->grid ? params + column % format->group / format->grid * format->grid_params : params;
}

/* The family that a name's beginning stands for, by index, for listings; NULL past the end. */
const lb_format_ops *lb_format_family(size_t index);

/* Of formats with kinds, codes [cols] of the kinds that w^2 * score chooses (kinds.h); of others nothing. */
void lb_format_choose_row(const lb_format *format, const float *w, const float *score, size_t cols,
                          uint8_t *codes);
/* fit of one group, of whose elements codes [n] say the kinds where the format has kinds. */
void lb_format_fit(const lb_format *format, const float *w, const float *importance, const uint8_t *codes,
                   size_t n, lb_fit how, float *params);
/* fit + round of a whole row whose kinds are chosen: w [cols] -> codes [cols], params [groups * format->params]. */
void lb_format_encode_chosen_row(const lb_format *format, const float *w, const float *importance,
                                 size_t cols, lb_fit how, uint8_t *codes, float *params);
/* The same with kinds chosen by w^2 * importance. */
void lb_format_encode_row(const lb_format *format, const float *w, const float *importance, size_t cols,
                          lb_fit how, uint8_t *codes, float *params);
/* value of a whole row. */
void lb_format_decode_row(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                          float *w);

#endif
