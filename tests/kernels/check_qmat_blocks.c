/* SPDX-License-Identifier: MIT
 * Block formats in matrix kernels: every available level against the formats' own decoding, bit for bit where
 * kernels.def promises bits, and within a derived bound of the product of the decoded values. */
#include "kernels/block_cases.h"
#include "kernels/kernel_tables.h"

static void shapes(void **state)
{
    (void)state;
    const size_t rows[] = {1, 15, 16, 17, 33}, cols[] = {1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 330, 577};
    lb_rng rng;
    lb_rng_seed(&rng, 1);
    for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
        check_block_shape(&rng, rows[c % 5], cols[c], (exponents){-7, 3, 0}, tables, table_count, true);
}

static void extremes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 2);
    check_block_extremes(&rng, tables, table_count);
}

/* The largest sums there are: all codes at one end, all of x at one end. */
static void nothing_saturates(void **state)
{
    (void)state;
    enum { COLS = 100 };
    float x[COLS];
    lb_rng rng;
    lb_rng_seed(&rng, 3);
    for (size_t f = 0; f < HELD_FORMATS; f++) {
        for (unsigned kind = 0; kind < 16; kind++) {
            block_case q;
            block_case_create(&q, &rng, held_formats[f], 16, COLS, (exponents){0, 0, 0});
            const lb_element *e = q.format.element;
            const uint8_t top = (uint8_t)e->max_code,
                          bottom = lb_element_encode(e, e->max + 1.0f, -e->max - 1.0f);
            for (size_t i = 0; i < 16 * COLS; i++)
                q.codes[i] = (kind & 1 ? i % 2 : kind & 2) ? top : bottom;
            for (size_t r = 0; r < 16; r++)
                lb_qmat_set_encoded(q.matrix, r, q.codes + r * COLS,
                                    q.params + r * q.groups * q.format.params);
            for (size_t c = 0; c < COLS; c++)
                x[c] = (kind & 4 ? c % 2 : kind & 8) ? 127.0f : -127.0f;
            for (size_t v = 0; v < VECTOR_FORMATS; v++) {
                block_case_set(&q, tables[0], vector_formats[v], x);
                for (size_t t = 0; t < table_count; t++)
                    check_block_times(&q, vector_formats[v], tables[t]);
            }
            block_case_destroy(&q);
        }
    }
}

/* With powers of two for scales, and few blocks of near exponents, nothing is rounded anywhere: the product
 * of the decoded values is a float, and must be the result. */
static void exact_where_nothing_rounds(void **state)
{
    (void)state;
    static const char *const formats[] = {"mxint8", "mxint6", "mxint4", "mxfp4", "mxfp6", "mxint8-ocp"};
    lb_rng rng;
    lb_rng_seed(&rng, 4);
    for (unsigned round = 0; round < 600; round++) {
        block_case q;
        /* 4 blocks of 32 * 128 * 127 < 2^19 steps (fp6: 60 per 7.5), over 2 exponents on one side: < 2^24. */
        const size_t cols = 1 + lb_rng_below(&rng, 128);
        const char *const vectors[] = {"mxint8", "mxint6", "mxint4"};
        float x[128];
        for (size_t c = 0; c < cols; c++)
            x[c] = (float)((1.0 + lb_rng_uniform(&rng)) * (lb_rng_below(&rng, 2) ? 1.0 : -1.0));
        block_case_create(&q, &rng, formats[round % 6], 5, cols, (exponents){-10, 1, 0});
        block_case_set(&q, tables[0], vectors[round / 6 % 3], x);
        for (size_t t = 0; t < table_count; t++) {
            float y[5];
            lb_qmat_times(tables[t], q.matrix, q.vector, y);
            for (size_t r = 0; r < q.rows; r++) {
                double bound, want = simulated(&q, r, &bound);
                assert_true((double)(float)want == want);
                if ((double)y[r] != want)
                    fail_msg("%s x %s: got %a, wanted %a", q.format.name, vectors[round / 6 % 3],
                             (double)y[r], want);
            }
        }
        block_case_destroy(&q);
    }
}

static void vectors_are_what_the_format_encodes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 5);
    for (unsigned round = 0; round < 60 * VECTOR_FORMATS; round++) {
        const char *name = vector_formats[round % VECTOR_FORMATS];
        block_case q;
        float x[MOST_COLS];
        if (!name)
            continue;
        block_case_create(&q, &rng, "mxint8", 1, 1 + lb_rng_below(&rng, 300), (exponents){0, 0, 0});
        const int exponent = (int)lb_rng_below(&rng, 240) - 130;
        for (size_t c = 0; c < q.cols; c++)
            x[c] = (float)ldexp(1.0, exponent); /* what stands in the vector before */
        lb_qvec_set(tables[0], q.vector, x, 1, q.cols);
        for (size_t c = 0; c < q.cols; c++)
            x[c] = round % 7 == 0 && c < 40 ? 0.0f : (float)ldexp(lb_rng_normal(&rng), exponent);
        q.cols -= lb_rng_below(&rng, q.cols);
        block_case_set(&q, tables[0], name, x);
        const lb_qvec *v = q.vector;
        const size_t padded = (q.cols + 31) / 32 * 32;
        assert_int_equal(v->cols, q.cols);
        assert_int_equal(v->halves, q.x_block == 16);
        for (size_t c = 0; c < padded; c++) {
            assert_int_equal(v->codes[c], c < q.cols ? q.x_codes[c] : 0);
            if (c < q.cols)
                assert_true(v->scales[c / 16] == q.x_scales[c]);
        }
        for (size_t h = 0; h < padded / 16; h++) {
            int sum = 0;
            for (size_t c = h * 16; c < h * 16 + 16; c++)
                sum += v->codes[c];
            assert_int_equal(v->code_sums[h], sum);
        }
        block_case_destroy(&q);
    }
}

static void other_vectors_are_left_to_floats(void **state)
{
    (void)state;
    static const char *const names[] = {"f32",        "bf16",       "int8-g32", "mxfp8-e4m3", "mxfp8-e5m2",
                                        "mxfp6-e2m3", "mxfp6-e3m2", "mxfp4",    "nvfp4",      "mxint8-asym"};
    const float x[32] = {1.0f, 2.0f};
    lb_qvec *vector = NULL;
    assert_int_equal(lb_qvec_create(1, 32, &vector, NULL), LB_OK);
    lb_qvec_set(tables[0], vector, x, 1, 32);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lb_format format;
        assert_int_equal(lb_format_parse(names[i], &format, NULL), LB_OK);
        assert_false(lb_qvec_set_format(tables[0], vector, &format, x, 1, 32));
        assert_int_equal(vector->codes[1], 127);
    }
    lb_qvec_destroy(vector);
}

/* A block that is not a number makes its row so, or the whole product; others stay what they are. */
static void not_a_number_spreads(void **state)
{
    (void)state;
    static const char *const names[] = {"mxint8", "nvint4", "nvfp4", "mxfp4-exact"};
    lb_rng rng;
    lb_rng_seed(&rng, 6);
    for (size_t i = 0; i < 4; i++) {
        block_case q;
        float x[70], y[3];
        block_case_create(&q, &rng, names[i], 3, 70, (exponents){0, 0, 0});
        float *params = q.params + (q.groups + 1) * q.format.params; /* of row 1 */
        for (unsigned p = 0; p < q.format.params; p++)
            params[p] = NAN;
        memset(q.codes + q.cols + q.format.group, 0, q.format.group); /* as an encoder leaves them */
        for (size_t r = 0; r < 3; r++)
            lb_qmat_set_encoded(q.matrix, r, q.codes + r * q.cols, q.params + r * q.groups * q.format.params);
        for (size_t c = 0; c < 70; c++)
            x[c] = (float)lb_rng_normal(&rng);
        for (size_t t = 0; t < table_count; t++) {
            float row[70];
            block_case_set(&q, tables[t], "mxint8", x);
            lb_qmat_times(tables[t], q.matrix, q.vector, y);
            assert_true(isfinite(y[0]) && isnan(y[1]) && isfinite(y[2]));
            lb_qmat_dequantize(tables[t], q.matrix, 1, 1, row);
            for (size_t c = 0; c < 70; c++)
                assert_int_equal(isnan(row[c]) != 0, c / q.format.group == 1);
            x[69] = i % 2 ? NAN : INFINITY;
            assert_true(lb_qvec_set_format(tables[t], q.vector, &q.format, x, 1, 70) == (i < 2));
            if (i < 2) {
                lb_qmat_times(tables[t], q.matrix, q.vector, y);
                assert_true(isnan(y[0]) && isnan(y[1]) && isnan(y[2]));
            }
            x[69] = 1.0f;
        }
        block_case_destroy(&q);
    }
}

/* Bytes of three panels of 16 rows, of 2 blocks of 32 columns. */
static void bytes_are_counted(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t bits, scales; /* of an element; bytes of a row of 16's scales in 32 columns */
    } rows[] = {{"mxint8", 8, 16}, {"mxint6", 6, 16},      {"mxint4", 4, 16}, {"mxfp4", 4, 16},
                {"mxfp6", 7, 16},  {"nvfp4", 4, 32},       {"nvint4", 4, 32}, {"mxint4-exact", 4, 64},
                {"mxfp4", 4, 16},  {"nvfp4-exact", 4, 128}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lb_format format;
        lb_qmat *matrix;
        assert_int_equal(lb_format_parse(rows[i].name, &format, NULL), LB_OK);
        assert_int_equal(lb_qmat_create_format(33, 40, &format, &matrix, NULL), LB_OK);
        assert_int_equal(lb_qmat_bytes(matrix), 3 * 2 * (16 * 32 * rows[i].bits / 8 + rows[i].scales));
        lb_qmat_destroy(matrix);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"f32", "mxfp8-e4m3", "mxfp8-e5m2", "mxfp6-e3m2"};
    lb_qmat *matrix = NULL;
    lb_format format;
    for (size_t i = 0; i < 4; i++) {
        lb_error err = {LB_OK, ""};
        assert_int_equal(lb_format_parse(names[i], &format, NULL), LB_OK);
        assert_false(lb_qmat_holds(&format));
        assert_int_equal(lb_qmat_create_format(8, 8, &format, &matrix, &err), LB_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, names[i]));
    }
    assert_int_equal(lb_format_parse("nvfp4", &format, NULL), LB_OK);
    assert_int_equal(lb_qmat_create_format(0, 8, &format, &matrix, NULL), LB_EINVAL);
    assert_int_equal(lb_qmat_create_format(SIZE_MAX / 64, 64, &format, &matrix, NULL), LB_ENOMEM);
    for (size_t k = 1; k <= 3; k++) {
        lb_alloc_fail_at(k);
        assert_int_equal(lb_qmat_create_format(20, 40, &format, &matrix, NULL), LB_ENOMEM);
    }
    lb_alloc_fail_at(0);
    assert_null(matrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(extremes),
        cmocka_unit_test(nothing_saturates),
        cmocka_unit_test(exact_where_nothing_rounds),
        cmocka_unit_test(vectors_are_what_the_format_encodes),
        cmocka_unit_test(other_vectors_are_left_to_floats),
        cmocka_unit_test(not_a_number_spreads),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, find_tables, NULL);
}
