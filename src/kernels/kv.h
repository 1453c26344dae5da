/* SPDX-License-Identifier: MIT
 *
 * The keys, or the values, of a layer's past tokens in one of these types (a head of D numbers takes):
 *
 *   f32     4 D bytes
 *   f16     2 D; what is beyond f16's range stays at its end
 *   int8    D + 4: integers of -127 .. 127 and one float as their scale, max / 127
 *   mxint8  D + D / 32: OCP's microscaling, a power of two for each 32 of them (formats/mx.h)
 */
#ifndef LB_KERNELS_KV_H
#define LB_KERNELS_KV_H

#include "kernels/kernels.h"

typedef enum lb_kv_type { LB_KV_F32, LB_KV_F16, LB_KV_INT8, LB_KV_MXINT8, LB_KV_TYPES } lb_kv_type;

#define LB_KV_NAMES "f32, f16, int8 and mxint8"

/* A name that is none of them is LB_EINVAL; NULL: LB_KV_DEFAULT. */
enum { LB_KV_DEFAULT = LB_KV_F16 };
lb_status lb_kv_type_parse(const char *name, lb_kv_type *out, lb_error *err);
const char *lb_kv_type_name(lb_kv_type type);

typedef struct lb_kv {
    lb_kv_type type;
    size_t heads, dim;
    uint8_t *values; /* [positions, heads, dim] */
    uint8_t *scales; /* [positions, heads, scales of a head], or NULL */
} lb_kv;

/* Bytes of one position's values, and of its scales. */
size_t lb_kv_value_bytes(lb_kv_type type, size_t heads, size_t dim);
size_t lb_kv_scale_bytes(lb_kv_type type, size_t heads, size_t dim);

/* Positions at .. at + count - 1 become x [count, heads * dim]. Threaded where that is much. */
void lb_kv_set(const lb_kernels *kernels, const lb_kv *kv, size_t at, size_t count, const float *x);

/* A head's rows from position `at` on, as kernels multiply them. */
lb_row_type lb_kv_row_type(lb_kv_type type);
lb_rows lb_kv_rows(const lb_kv *kv, size_t head, size_t at);

/* out [count, dim] = those of a head, as floats: exactly what the kernels multiply. */
void lb_kv_get(const lb_kernels *kernels, const lb_kv *kv, size_t head, size_t at, size_t count, float *out);

#endif
