/* SPDX-License-Identifier: MIT
 * Measured QSNR: against a slow sum over the format's own codes, against published numbers, and the promises
 * about threads, tensors and odd shapes. */
#include "near_value.h"
#include "qsnr_golden.h"

#include "analyze/distribution.h"
#include "analyze/qsnr_measure.h"
#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "kernels/hadamard.h"

static lb_format format_of(const char *name)
{
    lb_format f;
    assert_int_equal(lb_format_parse(name, &f, NULL), LB_OK);
    return f;
}

static const lb_kernels *kernels(void)
{
    return lb_kernels_get(LB_CPU_BEST);
}

static float *random_values(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);
    lb_rng rng;
    assert_non_null(x);
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(lb_rng_normal(&rng) * exp2((double)(i % 7)));
    return x;
}

/* One tensor through codes, row by row, in double. */
static double slow_db(const char *name, const float *x, size_t rows, size_t cols)
{
    lb_format f = format_of(name);
    uint8_t *codes = malloc(cols);
    float *params = malloc(lb_format_groups(&f, cols) * f.params * sizeof *params);
    float *y = malloc(cols * sizeof *y);
    double signal = 0.0, noise = 0.0;
    lb_format_bind(&f, x, rows * cols);
    for (size_t r = 0; r < rows; r++) {
        lb_format_encode_row(&f, x + r * cols, NULL, cols, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&f, codes, params, cols, y);
        for (size_t i = 0; i < cols; i++) {
            const double value = (double)x[r * cols + i];
            signal += value * value;
            noise += (value - (double)y[i]) * (value - (double)y[i]);
        }
    }
    free(codes);
    free(params);
    free(y);
    return -10.0 * log10(noise / signal);
}

static lb_qsnr_set *set_of(const char *const *names, size_t count, bool rotate)
{
    lb_format formats[16];
    lb_qsnr_set *set;
    for (size_t i = 0; i < count; i++)
        formats[i] = format_of(names[i]);
    assert_int_equal(lb_qsnr_set_create(kernels(), formats, count, rotate, 42, &set, NULL), LB_OK);
    return set;
}

static const char *const many[] = {"mxfp8-e4m3",  "mxfp6-e3m2-ocp", "mxfp4-even", "mxint8",
                                   "mxint4-asym", "nvfp4",          "nvint4",     "nvint4-exact",
                                   "int4-g128",   "int3-g32-asym",  "int8-row"};
enum { MANY = sizeof many / sizeof *many };

static void same_as_the_slow_way(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{7, 256}, {3, 100}, {40, 33}, {1, 1}, {1, 5000}, {2000, 8}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t rows = shapes[s][0], cols = shapes[s][1];
        float *x = random_values(rows * cols, 5 + s);
        lb_qsnr_set *set = set_of(many, MANY, false);
        assert_int_equal(lb_qsnr_set_add(set, x, rows, cols, "x", NULL), LB_OK);
        for (size_t i = 0; i < MANY; i++) {
            const lb_qsnr_result r = lb_qsnr_set_result(set, i, false);
            const double want = slow_db(many[i], x, rows, cols);
            if (fabs(r.qsnr_db - want) > 1e-9 && r.qsnr_db != want)
                fail_msg("%s on %zu x %zu: %.12f dB, want %.12f", many[i], rows, cols, r.qsnr_db, want);
            assert_int_equal(r.values, rows * cols);
        }
        lb_qsnr_set_destroy(set);
        free(x);
    }
}

/* The ten formats on v[i] = float(0.1 (i - 15)). */
static void deterministic_vector(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        double db;
    } cases[] = {{"mxfp8-e4m3", 32.1531}, {"mxfp8-e5m2", 25.6523}, {"mxfp6-e2m3", 32.0587},
                 {"mxfp6-e3m2", 25.6523}, {"mxfp4", 19.4575},      {"mxint8", 46.4123},
                 {"mxint6", 34.3712},     {"mxint4", 22.3300},     {"nvfp4", 19.7666},
                 {"nvint4", 23.4504}};
    float v[32];
    for (int i = 0; i < 32; i++)
        v[i] = (float)(0.1 * (i - 15));
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        lb_format f = format_of(cases[k].format);
        lb_qsnr sum = {0};
        lb_format_bind(&f, v, 32);
        assert_int_equal(lb_qsnr_add(kernels(), &f, v, 1, 32, "v", &sum, NULL), LB_OK);
        if (fabs(lb_qsnr_db(&sum) - cases[k].db) > 0.0005)
            fail_msg("%s: %.5f dB, want %.4f", cases[k].format, lb_qsnr_db(&sum), cases[k].db);
    }
}

/* Every row of the table, on a 64th or a 40th of its values: the standard deviation is then about 0.03 dB, and more
 * where a rule clips the largest values, on which all hangs then. */
static void published_rows(void **state)
{
    (void)state;
    enum { N = 1 << 18, COLS = 4096 };
    const qsnr_row *rows = qsnr_rows();
    float *x = malloc(N * sizeof *x);
    assert_non_null(x);
    double square = 0.0;
    for (size_t i = 0; i < QSNR_ROWS; i++) {
        const lb_format f = format_of(rows[i].format);
        lb_qsnr_set *set;
        if (i == 0 || strcmp(rows[i].distribution, rows[i - 1].distribution) != 0 ||
            f.group != format_of(rows[i - 1].format).group) {
            lb_distribution d;
            assert_int_equal(lb_distribution_parse(rows[i].distribution, &d, NULL), LB_OK);
            lb_distribution_fill(&d, 20251029, f.group, x, N);
        }
        assert_int_equal(lb_qsnr_set_create(kernels(), &f, 1, rows[i].rotated, 20251029, &set, NULL), LB_OK);
        assert_int_equal(lb_qsnr_set_add(set, x, N / COLS, COLS, "x", NULL), LB_OK);
        const lb_qsnr_result r = lb_qsnr_set_result(set, 0, rows[i].rotated);
        const double off = r.qsnr_db - rows[i].db;
        const bool clips = f.rule == LB_SCALE_ROUND || f.rule == LB_SCALE_FLOOR ||
                           (f.rule == LB_SCALE_OCP && rows[i].crest > 4.0);
        if (fabs(off) > (clips ? 0.2 : 0.1))
            fail_msg("%s on %s: %.4f dB, want %.4f", rows[i].format, rows[i].distribution, r.qsnr_db,
                     rows[i].db);
        if (rows[i].crest > 0.0) {
            near_value(r.crest.min, rows[i].crest, 1e-6);
            near_value(r.crest.max, rows[i].crest, 1e-6);
        }
        square += off * off;
        lb_qsnr_set_destroy(set);
    }
    assert_true(sqrt(square / QSNR_ROWS) < 0.04);
    free(x);
}

/* A rotation keeps energies, and normal values as normal as they were. */
static void rotation(void **state)
{
    (void)state;
    static const char *const names[] = {"mxint8", "mxfp4", "nvint4", "nvfp4", "int4-g64"};
    enum { ROWS = 512, COLS = 512 };
    lb_distribution gaussian;
    float *x = malloc(ROWS * COLS * sizeof *x);
    assert_int_equal(lb_distribution_parse("gaussian", &gaussian, NULL), LB_OK);
    lb_distribution_fill(&gaussian, 3, 0, x, ROWS * COLS);
    lb_qsnr_set *set = set_of(names, 5, true);
    assert_int_equal(lb_qsnr_set_add(set, x, ROWS, COLS, "x", NULL), LB_OK);
    for (size_t i = 0; i < 5; i++) {
        const lb_qsnr_result plain = lb_qsnr_set_result(set, i, false),
                             rotated = lb_qsnr_set_result(set, i, true);
        near_value(plain.qsnr_db, rotated.qsnr_db, 0.1);
        assert_true(plain.qsnr_db != rotated.qsnr_db);
        near_value(plain.crest.mean, rotated.crest.mean, 0.03);
    }
    lb_qsnr_set_destroy(set);
    /* An outlier in every block: integers gain by spreading it. */
    for (size_t i = 0; i < ROWS * COLS; i += 16)
        x[i] *= 20.0f;
    set = set_of(names, 5, true);
    assert_int_equal(lb_qsnr_set_add(set, x, ROWS, COLS, "x", NULL), LB_OK);
    for (size_t i = 0; i < 5; i += 2) {
        const lb_qsnr_result plain = lb_qsnr_set_result(set, i, false),
                             rotated = lb_qsnr_set_result(set, i, true);
        assert_true(rotated.qsnr_db > plain.qsnr_db + 1.0);
        assert_true(rotated.crest.median < plain.crest.median - 0.5);
    }
    lb_qsnr_set_destroy(set);
    free(x);
}

/* Its signs are those of kernels/hadamard.h with the seed of the tensor's index. */
static void rotation_by_hand(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 72 };
    static const char *const names[] = {"mxint6"};
    float *x = random_values(2 * ROWS * COLS, 9);
    double signal = 0.0, noise = 0.0;
    lb_qsnr_set *set = set_of(names, 1, true);
    for (size_t t = 0; t < 2; t++) {
        lb_rotation *r;
        assert_int_equal(lb_qsnr_set_add(set, x + t * ROWS * COLS, ROWS, COLS, "x", NULL), LB_OK);
        assert_int_equal(lb_rotation_create(COLS, 32, true, 42 + t, &r, NULL), LB_OK);
        float y[ROWS * COLS];
        memcpy(y, x + t * ROWS * COLS, sizeof y);
        lb_rotation_apply(kernels(), r, y, ROWS);
        double energy = 0.0;
        for (size_t i = 0; i < ROWS * COLS; i++)
            energy += (double)y[i] * (double)y[i];
        signal += energy;
        noise += energy * pow(10.0, -slow_db("mxint6", y, ROWS, COLS) / 10.0);
        lb_rotation_destroy(r);
    }
    near_value(lb_qsnr_set_result(set, 0, true).qsnr_db, 10.0 * log10(signal / noise), 1e-9);
    lb_qsnr_set_destroy(set);
    free(x);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    enum { ROWS = 900, COLS = 300 };
    float *x = random_values(ROWS * COLS, 21);
    double first[2][MANY - 1];
    for (unsigned threads = 1; threads <= 3; threads++) {
        lb_thread_set_count(threads);
        lb_qsnr_set *set = set_of(many, MANY - 1, true);
        assert_int_equal(lb_qsnr_set_add(set, x, ROWS, COLS, "x", NULL), LB_OK);
        for (size_t i = 0; i < MANY - 1; i++) {
            for (int rotated = 0; rotated < 2; rotated++) {
                const double db = lb_qsnr_set_result(set, i, rotated != 0).qsnr_db;
                if (threads == 1)
                    first[rotated][i] = db;
                assert_true(db == first[rotated][i]);
            }
        }
        lb_qsnr_set_destroy(set);
    }
    lb_thread_set_count(0);
    free(x);
}

/* Each tensor has a scale of its own: energies of two are those of each alone, added. */
static void tensors_are_bound_one_by_one(void **state)
{
    (void)state;
    static const char *const names[] = {"nvfp4"};
    enum { ROWS = 8, COLS = 64 };
    float *x = random_values(2 * ROWS * COLS, 31);
    double signal = 0.0, noise = 0.0;
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] *= 1e6f;
    lb_qsnr_set *set = set_of(names, 1, false);
    for (size_t t = 0; t < 2; t++) {
        const float *tensor = x + t * ROWS * COLS;
        double energy = 0.0;
        assert_int_equal(lb_qsnr_set_add(set, tensor, ROWS, COLS, "x", NULL), LB_OK);
        for (size_t i = 0; i < ROWS * COLS; i++)
            energy += (double)tensor[i] * (double)tensor[i];
        signal += energy;
        noise += energy * pow(10.0, -slow_db("nvfp4", tensor, ROWS, COLS) / 10.0);
    }
    const lb_qsnr_result r = lb_qsnr_set_result(set, 0, false);
    near_value(r.qsnr_db, 10.0 * log10(signal / noise), 1e-9);
    near_value(r.bits_per_value, 4.5 + 32.0 / (ROWS * COLS), 1e-12);
    lb_qsnr_set_destroy(set);
    free(x);
}

static void exact_and_empty(void **state)
{
    (void)state;
    static const char *const names[] = {"mxint4", "nvint4", "f32", "bf16"};
    float zeros[64] = {0.0f}, small[64];
    for (int i = 0; i < 64; i++)
        small[i] = (float)(i % 8);
    const float *const tensors[] = {zeros, small};
    for (int t = 0; t < 2; t++) {
        lb_qsnr_set *set = set_of(names, 4, true);
        assert_int_equal(lb_qsnr_set_add(set, tensors[t], 2, 32, "x", NULL), LB_OK);
        for (size_t i = 0; i < 4; i++) {
            const lb_qsnr_result r = lb_qsnr_set_result(set, i, false);
            assert_true(isinf(r.qsnr_db) && r.qsnr_db > 0.0);
            assert_int_equal(r.crest.blocks, t == 0 ? 0 : i == 1 ? 4 : 2);
            assert_true(t == 1 || isnan(r.theory_db));
        }
        lb_qsnr_set_destroy(set);
    }
    lb_qsnr_set *set = set_of(names, 4, true); /* without any tensor */
    assert_int_equal(lb_qsnr_set_result(set, 0, true).values, 0);
    assert_int_equal(lb_qsnr_set_add(set, zeros, 0, 32, "x", NULL), LB_OK);
    lb_qsnr_set_destroy(set);
    lb_qsnr_set_destroy(NULL);
}

static void values_that_are_not_finite(void **state)
{
    (void)state;
    static const char *const names[] = {"mxfp8-e4m3", "nvfp4"};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[3 * 40];
    for (int k = 0; k < 3; k++) {
        lb_error err;
        for (int i = 0; i < 120; i++)
            x[i] = 1.0f;
        x[2 * 40 + 17] = bad[k];
        x[2 * 40 + 30] = bad[k];
        lb_qsnr_set *set = set_of(names, 2, true);
        assert_int_equal(lb_qsnr_set_add(set, x, 3, 40, "layer 3", &err), LB_EFORMAT);
        assert_non_null(strstr(err.msg, "layer 3: the value at row 2, column 17 is"));
        lb_qsnr_set_destroy(set);
        lb_qsnr sum = {0};
        const lb_format f = format_of("mxint8");
        assert_int_equal(lb_qsnr_add(kernels(), &f, x, 3, 40, "x", &sum, &err), LB_EFORMAT);
    }
    lb_error err; /* finite, but not after a rotation */
    for (int i = 0; i < 120; i++)
        x[i] = 3e38f;
    lb_qsnr_set *set = set_of(names, 2, true);
    assert_int_equal(lb_qsnr_set_add(set, x, 3, 40, "x", &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "rotated: x: the value at"));
    lb_qsnr_set_destroy(set);
}

static void rotation_that_does_not_fit(void **state)
{
    (void)state;
    static const char *const names[] = {"int4-row"};
    float x[2 * 34];
    lb_error err;
    for (int i = 0; i < 68; i++)
        x[i] = (float)i;
    lb_qsnr_set *set = set_of(names, 1, true);
    assert_int_equal(lb_qsnr_set_add(set, x, 2, 34, "x", &err), LB_EINVAL);
    lb_qsnr_set_destroy(set);
}

/* Allocations that fail one after the other: no crash, no leak, and a sentence. */
static void no_memory(void **state)
{
    (void)state;
    static const char *const names[] = {"mxint8", "nvfp4", "int4-g64"};
    float *x = random_values(4096, 77);
    lb_format formats[3];
    for (size_t i = 0; i < 3; i++)
        formats[i] = format_of(names[i]);
    bool done = false;
    for (size_t k = 1; !done; k++) {
        lb_qsnr_set *set = NULL;
        lb_error err = {0};
        assert_true(k < 1000);
        lb_alloc_fail_at(k);
        lb_status st = lb_qsnr_set_create(kernels(), formats, 3, true, 1, &set, &err);
        if (st == LB_OK)
            st = lb_qsnr_set_add(set, x, 64, 64, "x", &err);
        lb_alloc_fail_at(0);
        lb_qsnr_set_destroy(set);
        done = st == LB_OK;
        assert_true(done || (st == LB_ENOMEM && err.msg[0] != '\0'));
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_the_slow_way),
        cmocka_unit_test(deterministic_vector),
        cmocka_unit_test(published_rows),
        cmocka_unit_test(rotation),
        cmocka_unit_test(rotation_by_hand),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(tensors_are_bound_one_by_one),
        cmocka_unit_test(exact_and_empty),
        cmocka_unit_test(values_that_are_not_finite),
        cmocka_unit_test(rotation_that_does_not_fit),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests_name("qsnr_measure", tests, NULL, NULL);
}
