/* SPDX-License-Identifier: MIT
 * K types: every bit of a block where GGUF's reader (io/tensor_blocks.c, checked against llama.cpp) looks for it, the
 * search against the best real scales and minima that brute force finds, and grids under GPTQ. */
#include "method_cases.h"

#include "formats/k_blocks.h"
#include "io/tensor_blocks.h"

enum { BLOCKS = 3, COLS = BLOCKS * LB_K_BLOCK, MOST_BYTES = BLOCKS * 210 };

static const struct {
    const char *name;
    lb_dtype dtype;
    double bits;
    size_t d_at; /* of a block */
    bool symmetric;
} types[] = {{"q2_k", LB_DTYPE_Q2_K, 2.625, 80, false},
             {"q3_k", LB_DTYPE_Q3_K, 3.4375, 108, true},
             {"q4_k", LB_DTYPE_Q4_K, 4.5, 0, false},
             {"q5_k", LB_DTYPE_Q5_K, 5.5, 0, false},
             {"q6_k", LB_DTYPE_Q6_K, 6.5625, 208, true}};
enum { TYPES = sizeof types / sizeof *types };

static lb_format parsed(size_t type)
{
    lb_format f;
    assert_int_equal(lb_format_parse(types[type].name, &f, NULL), LB_OK);
    return f;
}

static void put_half(uint8_t *at, float x)
{
    const uint16_t half = lb_f16_from_float(x);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

/* Any bytes, with two floats that are finite. */
static void random_blocks(lb_rng *rng, size_t type, uint8_t *out)
{
    const size_t bytes = lb_dtype_block_bytes(types[type].dtype);
    for (size_t i = 0; i < BLOCKS * bytes; i++)
        out[i] = (uint8_t)lb_rng_below(rng, 256);
    for (size_t b = 0; b < BLOCKS; b++) {
        put_half(out + b * bytes + types[type].d_at, (float)(0.001 * (1.0 + lb_rng_uniform(rng))));
        if (!types[type].symmetric)
            put_half(out + b * bytes + types[type].d_at + 2, (float)(0.002 * (1.0 + lb_rng_uniform(rng))));
    }
}

static void blocks_are_ggufs(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    for (size_t type = 0; type < TYPES; type++) {
        const lb_format f = parsed(type);
        uint8_t blocks[MOST_BYTES], again[MOST_BYTES], codes[COLS];
        const uint8_t *from = blocks;
        uint8_t *to = again;
        float params[BLOCKS * LB_FORMAT_MAX_PARAMS], values[COLS], want[COLS];
        assert_true(8.0 * (double)lb_format_row_bytes(&f, COLS) == types[type].bits * COLS);
        assert_int_equal(lb_format_row_bytes(&f, COLS), BLOCKS * lb_dtype_block_bytes(types[type].dtype));
        for (int try = 0; try < 50; try++) {
            random_blocks(&rng, type, blocks);
            assert_int_equal(f.ops->unpack(&f, &from, COLS, codes, params, NULL), LB_OK);
            lb_tensor_blocks_decode(types[type].dtype, blocks, BLOCKS, want);
            lb_format_decode_row(&f, codes, params, COLS, values);
            for (size_t i = 0; i < COLS; i++)
                if (values[i] != want[i])
                    fail_msg("%s, element %zu: %.9g, wanted %.9g", f.name, i, (double)values[i],
                             (double)want[i]);
            memset(again, 0xaa, sizeof again);
            f.ops->pack(&f, codes, params, COLS, &to);
            assert_memory_equal(again, blocks, lb_format_row_bytes(&f, COLS));
            /* One element by its grid's parameters is the same as all. */
            const size_t i = (size_t)lb_rng_below(&rng, LB_K_BLOCK);
            float one;
            uint8_t code;
            f.ops->value(&f, lb_format_grid(&f, params, i), codes + i, 1, &one);
            assert_true(one == want[i]);
            f.ops->round(&f, lb_format_grid(&f, params, i), want + i, 1, &code);
            f.ops->value(&f, lb_format_grid(&f, params, i), &code, 1, &one);
            assert_true(one == want[i]);
        }
        const uint16_t bad[] = {0x7c00, 0xfc00, 0x7e00};
        for (size_t i = 0; i < 3 * (types[type].symmetric ? 1 : 2); i++) {
            lb_error err = {0};
            uint8_t *at = blocks + lb_dtype_block_bytes(types[type].dtype) + types[type].d_at + i / 3 * 2;
            const uint8_t kept[] = {at[0], at[1]};
            at[0] = (uint8_t)bad[i % 3];
            at[1] = (uint8_t)(bad[i % 3] >> 8);
            assert_int_equal(f.ops->unpack(&f, &from, COLS, codes, params, &err), LB_EFORMAT);
            assert_non_null(strstr(err.msg, i / 3 ? "dmin of block 1" : "d of block 1"));
            memcpy(at, kept, 2);
        }
    }
}

/* ---- The search -------------------------------------------------------------------------------------- */

static double error_of(const lb_format *f, const float *params, const float *w, const float *importance)
{
    uint8_t codes[LB_K_BLOCK];
    float values[LB_K_BLOCK];
    double error = 0.0;
    f->ops->round(f, params, w, LB_K_BLOCK, codes);
    f->ops->value(f, params, codes, LB_K_BLOCK, values);
    for (size_t i = 0; i < LB_K_BLOCK; i++) {
        const double d = (double)values[i] - (double)w[i];
        error += (importance ? (double)importance[i] : 1.0) * d * d;
    }
    return error;
}

static double real_error(const lb_format *f, double scale, double minimum, const float *w,
                         const float *importance)
{
    const double offset = f->symmetric ? ldexp(1.0, (int)f->bits - 1) : 0.0,
                 top = ldexp(1.0, (int)f->bits) - 1.0;
    double error = 0.0;
    for (size_t i = 0; i < f->grid; i++) {
        const double q = fmin(fmax(nearbyint(((double)w[i] + minimum) / scale), -offset), top - offset);
        const double d = scale * q - minimum - (double)w[i];
        error += (importance ? (double)importance[i] : 1.0) * d * d;
    }
    return error;
}

/* The least error that a grid could have if its scale and minimum were any real numbers. */
static double least_real_error(const lb_format *f, const float *w, const float *importance)
{
    enum { STEPS = 120 };
    double low = 0.0, high = 0.0, least = HUGE_VAL;
    for (size_t i = 0; i < f->grid; i++) {
        low = fmin(low, (double)w[i]);
        high = fmax(high, (double)w[i]);
    }
    const double top = ldexp(1.0, (int)f->bits) - 1.0, half = ldexp(1.0, (int)f->bits - 1);
    for (int i = 1; i <= STEPS; i++) {
        const double share = 1.2 * i / STEPS;
        if (f->symmetric) {
            for (int sign = -1; sign <= 1; sign += 2)
                least = fmin(
                    least, real_error(f, sign * share * fmax(high, -low) / (half - 1.0), 0.0, w, importance));
            continue;
        }
        for (int k = 0; k <= STEPS; k++)
            least =
                fmin(least, real_error(f, share * (high - low) / top, -1.2 * low * k / STEPS, w, importance));
    }
    return least;
}

/* Scales of a few bits lose something to the best real ones, little where they have six or eight. */
static void the_search_is_near_the_best(void **state)
{
    (void)state;
    static const double most[TYPES] = {1.35, 1.10, 1.20, 1.20, 1.12};
    lb_rng rng;
    lb_rng_seed(&rng, 21);
    for (size_t type = 0; type < TYPES; type++) {
        const lb_format f = parsed(type);
        double range = 0.0, search = 0.0, best = 0.0;
        for (int try = 0; try < 6; try++) {
            float w[LB_K_BLOCK], importance[LB_K_BLOCK], params[LB_FORMAT_MAX_PARAMS];
            const float *weights = try % 2 ? importance : NULL;
            for (size_t i = 0; i < LB_K_BLOCK; i++) {
                w[i] = (float)(0.03 * exp(0.3 * (double)(i / 32)) * lb_rng_normal(&rng));
                importance[i] = (float)exp(lb_rng_normal(&rng));
            }
            f.ops->fit(&f, w, weights, LB_K_BLOCK, LB_FIT_RANGE, params);
            range += error_of(&f, params, w, weights);
            f.ops->fit(&f, w, weights, LB_K_BLOCK, LB_FIT_SEARCH, params);
            search += error_of(&f, params, w, weights);
            for (size_t g = 0; g < LB_K_BLOCK; g += f.grid)
                best += least_real_error(&f, w + g, weights ? weights + g : NULL);
        }
        if (!(search < most[type] * best && search < 0.95 * range))
            fail_msg("%s: error %g, range %g, real scales %g", f.name, search, range, best);
    }
}

static void what_is_on_a_grid_stays(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 33);
    for (size_t type = 0; type < TYPES; type++) {
        const lb_format f = parsed(type);
        float w[LB_K_BLOCK], params[LB_FORMAT_MAX_PARAMS];
        for (int how = LB_FIT_RANGE; how <= LB_FIT_SEARCH; how++) {
            memset(w, 0, sizeof w);
            f.ops->fit(&f, w, NULL, LB_K_BLOCK, (lb_fit)how, params);
            assert_true(error_of(&f, params, w, NULL) == 0.0);
            /* Large numbers end at the largest f16, small ones at nothing. */
            for (size_t i = 0; i < LB_K_BLOCK; i++)
                w[i] = (i % 2 ? 1.0f : -1.0f) * (i < 128 ? 1e30f : 1e-30f);
            f.ops->fit(&f, w, NULL, LB_K_BLOCK, (lb_fit)how, params);
            for (unsigned i = 0; i < f.params; i++)
                assert_true(isfinite(params[i]));
        }
        /* One grid of powers of two beside grids of zeros. */
        const int top = 1 << f.bits, low = f.symmetric ? -top / 2 : 0;
        memset(w, 0, sizeof w);
        for (size_t i = 0; i < f.grid; i++)
            w[i] = 0.125f * (float)(low + (int)(i % (size_t)top));
        w[1] = 0.125f * (float)(f.symmetric ? low : top - 1);
        f.ops->fit(&f, w, NULL, LB_K_BLOCK, LB_FIT_SEARCH, params);
        double energy = 0.0;
        for (size_t i = 0; i < LB_K_BLOCK; i++)
            energy += (double)w[i] * (double)w[i];
        assert_true(error_of(&f, params, w, NULL) < 1e-6 * energy);
    }
}

/* ---- Under GPTQ -------------------------------------------------------------------------------------- */

/* Where columns have nothing in common, GPTQ is rounding, in every order of columns. */
static void gptq_keeps_grids_apart(void **state)
{
    (void)state;
    for (size_t type = 0; type < TYPES; type++) {
        for (int order = LB_ORDER_GROUP; order <= LB_ORDER_NONE; order++) {
            enum { ROWS = 5, WIDTH = 2 * LB_K_BLOCK };
            method_case c = case_create(types[type].name, ROWS, WIDTH, 0, 77);
            for (size_t i = 0; i < (size_t)WIDTH * WIDTH; i++)
                c.hessian.h[i] = i % (WIDTH + 1) ? 0.0f : 1.0f + (float)(i * 7 % 31);
            c.recipe.fit = LB_FIT_RANGE;
            c.recipe.order = (lb_order)order;
            uint8_t *codes = case_alloc(ROWS * WIDTH, 1);
            for (size_t r = 0; r < ROWS; r++)
                lb_format_encode_row(&c.layer.format, c.layer.w + r * WIDTH, NULL, WIDTH, LB_FIT_RANGE,
                                     codes + r * WIDTH, c.layer.params + r * c.params_per_row);
            assert_int_equal(lb_method_gptq.quantize(&c.recipe, &c.hessian, &c.layer, 1, NULL), LB_OK);
            assert_memory_equal(c.layer.codes, codes, ROWS * WIDTH);
            free(codes);
            case_free(&c);
        }
    }
}

/* tr(D H D^T) */
static double layer_error(const method_case *c)
{
    const size_t n = c->layer.cols;
    float *q = case_alloc(n, sizeof *q);
    double error = 0.0;
    for (size_t r = 0; r < c->layer.rows; r++) {
        lb_format_decode_row(&c->layer.format, c->layer.codes + r * n,
                             c->layer.params + r * c->params_per_row, n, q);
        for (size_t i = 0; i < n; i++)
            q[i] -= c->layer.w[r * n + i];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                error += (double)q[i] * (double)c->hessian.h[i * n + j] * (double)q[j];
    }
    free(q);
    return error;
}

static void errors_are_passed_on(void **state)
{
    (void)state;
    for (size_t type = 0; type < TYPES; type++) {
        method_case c = case_create(types[type].name, 6, LB_K_BLOCK, 0, 78);
        const lb_format *f = &c.layer.format;
        float importance[LB_K_BLOCK];
        for (size_t i = 0; i < LB_K_BLOCK; i++)
            importance[i] = c.hessian.h[i * (LB_K_BLOCK + 1)];
        for (size_t r = 0; r < 6; r++)
            lb_format_encode_row(f, c.layer.w + r * LB_K_BLOCK, importance, LB_K_BLOCK, LB_FIT_SEARCH,
                                 c.layer.codes + r * LB_K_BLOCK, c.layer.params + r * c.params_per_row);
        const double rounded = layer_error(&c);
        assert_int_equal(lb_method_gptq.quantize(&c.recipe, &c.hessian, &c.layer, 1, NULL), LB_OK);
        const double passed_on = layer_error(&c);
        c.recipe.refine = 4;
        assert_int_equal(lb_method_gptq.quantize(&c.recipe, &c.hessian, &c.layer, 1, NULL), LB_OK);
        const double refined = layer_error(&c);
        if (!(passed_on < 0.6 * rounded && refined <= passed_on))
            fail_msg("%s: rounded %g, GPTQ %g, refined %g", f->name, rounded, passed_on, refined);
        case_free(&c);
    }
}

static void names_and_widths(void **state)
{
    (void)state;
    static const char *const wrong[] = {"q1_k", "q7_k", "q4_K", "q4_k_m", "q4k", "q4_k ", "q4_0"};
    lb_format f;
    lb_error err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(lb_format_parse(wrong[i], &f, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "q2_k"));
    f = parsed(2);
    assert_int_equal(lb_format_check_cols(&f, 512, "layer", &err), LB_OK);
    assert_int_equal(lb_format_check_cols(&f, 576, "layer", &err), LB_EINVAL);
    assert_string_equal(err.msg, "layer: q4_k has blocks of 256, which do not divide its width of 576");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_widths),
        cmocka_unit_test(blocks_are_ggufs),
        cmocka_unit_test(the_search_is_near_the_best),
        cmocka_unit_test(what_is_on_a_grid_stays),
        cmocka_unit_test(gptq_keeps_grids_apart),
        cmocka_unit_test(errors_are_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
