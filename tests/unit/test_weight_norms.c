/* SPDX-License-Identifier: MIT
 * Norm and crest factors of a small model's linear layers, against sums over all of its tensors. */
#define _GNU_SOURCE
#include "near_value.h"
#include "scratch.h"
#include "tiny_model.h"

#include "analyze/weight_norms.h"
#include "base/alloc.h"

/* Whether a tensor is a linear layer's weight: a matrix in a block. */
static bool is_linear(const tiny_tensor *t)
{
    return t->rows > 0 && strstr(t->name, "layers") != NULL;
}

static void slow_norms(const tiny_model *m, size_t group, lb_weight_norms *out)
{
    double squares = 0, crests = 0;
    size_t count = 0, groups = 0;
    for (size_t k = 0; k < m->count; k++) {
        const tiny_tensor *t = &m->tensors[k];
        const size_t of = group ? group : t->cols;
        for (size_t row = 0; is_linear(t) && row < t->rows; row++) {
            for (size_t at = 0; at < t->cols; at += of) {
                const size_t n = t->cols - at < of ? t->cols - at : of;
                double sum = 0, most = 0;
                for (size_t i = 0; i < n; i++) {
                    const double w = t->values[row * t->cols + at + i];
                    sum += w * w;
                    most = fabs(w) > most ? fabs(w) : most;
                }
                squares += sum;
                count += n;
                crests += most / sqrt(sum / (double)n);
                groups++;
            }
        }
    }
    *out = (lb_weight_norms){sqrt(squares), sqrt(squares / (double)count), crests / (double)groups};
}

static void all_linear_layers_and_nothing_else(void **state)
{
    (void)state;
    static const size_t groups[] = {0, 32, 40};
    char *folder = scratch_make("norms");
    const tiny_model_options options = {.seed = 5, .dtype = LB_DTYPE_F32, .ffn = 96, .hidden = 64};
    tiny_model *m = tiny_model_make(&options);
    lb_weights *weights;
    lb_error err;
    assert_non_null(m);
    assert_int_equal(tiny_model_write(folder, &options), 0);
    assert_int_equal(lb_weights_open(folder, &weights, &err), LB_OK);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        lb_weight_norms got, want;
        slow_norms(m, groups[i], &want);
        if (lb_weight_norms_measure(weights, groups[i], &got, &err) != LB_OK)
            fail_msg("%s", err.msg);
        near_value(got.norm, want.norm, 1e-9 * want.norm);
        near_value(got.rms, want.rms, 1e-9);
        near_value(got.crest, want.crest, 1e-5);
    }
    lb_weight_norms ignored;
    lb_alloc_fail_at(1);
    assert_int_equal(lb_weight_norms_measure(weights, 0, &ignored, &err), LB_ENOMEM);
    lb_alloc_fail_at(0);
    lb_weights_close(weights);
    tiny_model_free(m);
    scratch_remove(folder);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_linear_layers_and_nothing_else)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
