/* SPDX-License-Identifier: MIT
 *
 * Number formats on arrays of one's own: which there are, and a matrix packed in one of them, as checkpoints store it.
 *
 *     lb_packed *packed;
 *     if (lb_pack("int4-g128", weights, rows, cols, NULL, &packed, &err) == LB_OK) {
 *         printf("%.3f bits per weight\n", lb_packed_bits_per_weight(packed));
 *         lb_unpack(packed, rounded, &err);
 *         lb_packed_free(packed);
 *     }
 *
 * A format cuts each row into groups of neighbours. A group has parameters (a scale, say), an element has a code, and
 * the two give its value: docs/formats.md says how, format by format.
 */
#ifndef LOWBIT_FORMATS_H
#define LOWBIT_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_format_info {
    char name[32]; /* as lowbit spells it: "mxfp8" is "mxfp8-e4m3" */
    char family[16]; /* "int", "mx", "nv", "bp", "sq", "float" */
    size_t bits; /* of a code; of a float */
    size_t group; /* neighbours that share parameters; 0: a whole row, or a float format */
    size_t params; /* floats that describe a group; of a float format 0 */
    bool symmetric;
    bool whole_groups; /* a row must be a multiple of `group`; otherwise its last group may be short */
    bool tensor_scale; /* all groups of a matrix share a float besides */
    double bits_per_weight; /* of 4096 columns, parameters included */
    size_t reserved[8]; /* 0 */
} lb_format_info;

/* LB_EINVAL where there is no such format, with the list of what there is. */
LB_API lb_status lb_format_describe(const char *name, lb_format_info *out, lb_error *err);

/* The formats of every family, the usual group sizes and variants among them, by index; NULL past the end. Names that
 * are not here exist as well: other low fractions of SQ-format, other rules for scales of MX. */
LB_API const char *lb_format_listed(size_t index);

/* A matrix in a format. Immutable: any number of threads may look at it. */
typedef struct lb_packed lb_packed;

typedef struct lb_pack_options {
    size_t struct_size;
    const char
        *fit; /* how a group's parameters are chosen: "range", from its extremes alone, or "search", the least
                      * squared error */
    const float *importance; /* [cols] of each column's squared errors, finite and > 0; NULL: all alike */
} lb_pack_options;

/* fit "search", all columns alike. */
LB_API void lb_pack_options_init_sized(lb_pack_options *options, size_t size);
#define lb_pack_options_init(options) lb_pack_options_init_sized((options), sizeof *(options))

/* Rounds values [rows, cols] (row-major, finite) to the nearest that the format has. The caller frees *out. */
LB_API lb_status lb_pack(const char *format, const float *values, size_t rows, size_t cols,
                         const lb_pack_options *options, lb_packed **out, lb_error *err);
LB_API void lb_packed_free(lb_packed *packed);

/* The values that the codes stand for -> values [rows, cols]. */
LB_API lb_status lb_unpack(const lb_packed *packed, float *values, lb_error *err);

LB_API const char *
lb_packed_format(const lb_packed *packed); /* lb_format_info's name; valid as long as `packed` */
LB_API size_t lb_packed_rows(const lb_packed *packed);
LB_API size_t lb_packed_cols(const lb_packed *packed);
LB_API size_t lb_packed_groups(const lb_packed *packed); /* in a row; of a float format 0 */
LB_API uint64_t lb_packed_bytes(const lb_packed *packed);
LB_API double lb_packed_bits_per_weight(const lb_packed *packed);

/* Codes, a byte for each element -> codes [rows, cols], and parameters -> params [rows, groups, info.params]; either
 * may be NULL. LB_EUNSUPPORTED of a float format, which has neither. */
LB_API lb_status lb_packed_codes(const lb_packed *packed, uint8_t *codes, float *params, lb_error *err);

/* One of the byte arrays that the matrix consists of, named and laid out as in a checkpoint (docs/checkpoint.md). */
typedef struct lb_packed_part {
    char name[16]; /* "codes", "scales", "tensor_scale"; "values" of a float format */
    const void *data; /* [rows, row_bytes], little-endian; valid as long as the packed matrix */
    size_t row_bytes, rows; /* rows: 1 of "tensor_scale" */
    size_t element_bytes; /* 1: packed bits or 8-bit floats; 2: 16-bit floats; 4: f32 */
    size_t reserved[4]; /* 0 */
} lb_packed_part;

LB_API size_t lb_packed_part_count(const lb_packed *packed);
/* LB_EINVAL where index is not below the count. */
LB_API lb_status lb_packed_get_part(const lb_packed *packed, size_t index, lb_packed_part *out,
                                    lb_error *err);

#ifdef __cplusplus
}
#endif
#endif
