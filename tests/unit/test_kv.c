/* SPDX-License-Identifier: MIT
 * Keys and values as they are kept: against the number formats of the registry, and where they come to lie. */
#include "near.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/rng.h"
#include "formats/format.h"
#include "kernels/kv.h"

enum { HEADS = 3, POSITIONS = 50 };

/* A head's row as a format of the registry rounds it. */
static void as_format(const char *name, const float *x, size_t dim, float *out)
{
    lb_format format;
    lb_error err;
    uint8_t *codes = malloc(dim);
    float *params = malloc(dim * LB_FORMAT_MAX_PARAMS * sizeof *params);
    assert_int_equal(lb_format_parse(name, &format, &err), LB_OK);
    lb_format_encode_row(&format, x, NULL, dim, LB_FIT_RANGE, codes, params);
    lb_format_decode_row(&format, codes, params, dim, out);
    free(codes);
    free(params);
}

static void check_head(lb_kv_type type, const float *x, const float *got, size_t dim)
{
    float want[200], largest = 0.0f;
    for (size_t i = 0; i < dim; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    switch (type) {
    case LB_KV_F32:
        same_array(got, x, dim);
        break;
    case LB_KV_F16:
        for (size_t i = 0; i < dim; i++)
            want[i] = lb_round_to_f16(x[i]);
        same_array(got, want, dim);
        break;
    case LB_KV_INT8:
        near_array(got, x, dim, 0.50002 * (double)largest / 127);
        break;
    default:
        as_format("mxint8", x, dim, want);
        same_array(got, want, dim);
    }
}

static void check(lb_kv_type type, size_t dim, lb_rng *rng)
{
    const lb_kernels *kernels = lb_kernels_get(LB_CPU_BEST);
    const size_t width = HEADS * dim, values = lb_kv_value_bytes(type, HEADS, dim);
    const size_t scales = lb_kv_scale_bytes(type, HEADS, dim);
    lb_kv kv = {.type = type, .heads = HEADS, .dim = dim, .values = malloc(POSITIONS * values + 1)};
    float *x = malloc(POSITIONS * width * sizeof *x), *got = malloc(POSITIONS * dim * sizeof *got);
    if (scales)
        kv.scales = malloc(POSITIONS * scales + 1);
    kv.values[POSITIONS * values] = 77;
    if (scales)
        kv.scales[POSITIONS * scales] = 78;
    for (size_t i = 0; i < POSITIONS * width; i++)
        x[i] = (float)(lb_rng_normal(rng) * ldexp(1.0, (int)(i / dim % 40) - 20));
    for (size_t at = 0; at < POSITIONS;) { /* in pieces, the first ones last */
        const size_t n = at + 7 < POSITIONS ? 7 : POSITIONS - at;
        lb_kv_set(kernels, &kv, POSITIONS - at - n, n, x + (POSITIONS - at - n) * width);
        at += n;
    }
    assert_int_equal(kv.values[POSITIONS * values], 77);
    assert_true(!scales || kv.scales[POSITIONS * scales] == 78);
    for (size_t head = 0; head < HEADS; head++) {
        lb_kv_get(kernels, &kv, head, 3, POSITIONS - 3, got);
        for (size_t p = 3; p < POSITIONS; p++)
            check_head(type, x + p * width + head * dim, got + (p - 3) * dim, dim);
    }
    free(kv.values);
    free(kv.scales);
    free(x);
    free(got);
}

static void every_type(void **state)
{
    (void)state;
    static const size_t dims[] = {2, 31, 32, 33, 64, 128, 200};
    lb_rng rng;
    lb_rng_seed(&rng, 71);
    for (unsigned type = 0; type < LB_KV_TYPES; type++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            check((lb_kv_type)type, dims[i], &rng);
    assert_int_equal(lb_kv_value_bytes(LB_KV_F16, 3, 64), 384);
    assert_int_equal(lb_kv_scale_bytes(LB_KV_INT8, 3, 64), 12);
    assert_int_equal(lb_kv_scale_bytes(LB_KV_MXINT8, 3, 65), 9);
}

static void names(void **state)
{
    (void)state;
    lb_kv_type type;
    lb_error err;
    for (unsigned t = 0; t < LB_KV_TYPES; t++) {
        assert_int_equal(lb_kv_type_parse(lb_kv_type_name((lb_kv_type)t), &type, &err), LB_OK);
        assert_int_equal(type, t);
    }
    assert_int_equal(lb_kv_type_parse(NULL, &type, &err), LB_OK);
    assert_int_equal(type, LB_KV_DEFAULT);
    assert_int_equal(lb_kv_type_parse("int4", &type, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "mxint8"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type), cmocka_unit_test(names)};
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
