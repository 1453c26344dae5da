/* SPDX-License-Identifier: MIT
 * Calibration samples: consecutive windows of the text, chosen evenly, in the text's order. */
#include "tokenizer_golden.h"

#include "base/alloc.h"
#include "calibrate/samples.h"

enum { TEXT_BYTES = 6000 };

static char text[TEXT_BYTES];

/* Words that differ from place to place, so that windows can be told apart. */
static int write_text(void **state)
{
    (void)state;
    size_t used = 0;
    for (unsigned i = 0; used + 24 < TEXT_BYTES; i++)
        used += (size_t)snprintf(text + used, TEXT_BYTES - used, "line %u of %u\n", i * 7919 % 10007, i);
    return 0;
}

typedef struct fixture {
    lb_tokenizer *tokenizer;
    uint32_t *ids; /* of the whole text */
    size_t count;
    bool bos;
} fixture;

static fixture open_fixture(const char *name)
{
    fixture f = {.tokenizer = golden_tokenizer(name, NULL)};
    f.bos = lb_tokenizer_adds_bos(f.tokenizer);
    f.ids = encode(f.tokenizer, text, strlen(text), LB_ENCODE_PLAIN, &f.count);
    assert_true(f.count > 500);
    return f;
}

static void close_fixture(fixture *f)
{
    lb_ids_free(f->ids);
    lb_tokenizer_destroy(f->tokenizer);
}

/* Which window sample `s` is; fails when it is none. */
static size_t window_of(const fixture *f, const lb_samples *samples, size_t s)
{
    const uint32_t *sample = samples->ids + s * samples->length;
    if (f->bos) {
        assert_int_equal(sample[0], lb_tokenizer_bos(f->tokenizer));
        sample++;
    }
    const size_t fresh = samples->length - f->bos;
    for (size_t w = 0; (w + 1) * fresh <= f->count; w++)
        if (memcmp(f->ids + w * fresh, sample, fresh * sizeof *sample) == 0)
            return w;
    fail_msg("sample %zu is no window of the text", s);
    return 0;
}

static void check_windows(const fixture *f, size_t count, size_t length, uint64_t seed)
{
    lb_samples samples, again;
    const size_t windows = f->count / (length - f->bos);
    assert_int_equal(lb_samples_create(f->tokenizer, text, strlen(text), count, length, seed, &samples, NULL),
                     LB_OK);
    assert_int_equal(samples.length, length);
    assert_int_equal(samples.count, count < windows ? count : windows);
    for (size_t s = 0, next = 0; s < samples.count; s++) {
        const size_t w = window_of(f, &samples, s);
        assert_true(w >= next); /* in order, none twice */
        next = w + 1;
    }
    assert_int_equal(lb_samples_create(f->tokenizer, text, strlen(text), count, length, seed, &again, NULL),
                     LB_OK);
    assert_memory_equal(again.ids, samples.ids, samples.count * length * sizeof *samples.ids);
    lb_samples_free(&again);
    lb_samples_free(&samples);
    assert_null(samples.ids);
}

static const char *const tokenizers[] = {"gpt2", "llama3", "sentencepiece"};

static void windows_of_the_text(void **state)
{
    (void)state;
    size_t with_bos = 0;
    for (size_t t = 0; t < 3; t++) {
        fixture f = open_fixture(tokenizers[t]);
        with_bos += f.bos;
        for (uint64_t seed = 0; seed < 3; seed++) {
            check_windows(&f, 5, 32, seed);
            check_windows(&f, 1, 33, seed);
            check_windows(&f, 1000000, 16, seed); /* all there are */
            check_windows(&f, 3, f.count + f.bos, seed); /* exactly one fits */
            check_windows(&f, 3, f.count / 2 + f.bos, seed);
        }
        close_fixture(&f);
    }
    assert_true(with_bos >= 1 && with_bos <= 2); /* both kinds were seen */
}

/* Over many seeds every window is taken equally often, within 5 standard deviations. */
static void chosen_evenly(void **state)
{
    (void)state;
    enum { SEEDS = 400, CHOSEN = 4, LENGTH = 128, MOST = 100 };
    fixture f = open_fixture("gpt2");
    size_t hits[MOST] = {0}, windows = f.count / (LENGTH - f.bos);
    assert_true(windows > 2 * CHOSEN && windows <= MOST);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        lb_samples samples;
        assert_int_equal(
            lb_samples_create(f.tokenizer, text, strlen(text), CHOSEN, LENGTH, seed, &samples, NULL), LB_OK);
        for (size_t s = 0; s < CHOSEN; s++)
            hits[window_of(&f, &samples, s)]++;
        lb_samples_free(&samples);
    }
    const double p = (double)CHOSEN / (double)windows, deviation = sqrt(SEEDS * p * (1.0 - p));
    for (size_t w = 0; w < windows; w++)
        assert_true(fabs((double)hits[w] - SEEDS * p) <= 5.0 * deviation);
    close_fixture(&f);
}

static void too_little_is_refused(void **state)
{
    (void)state;
    for (size_t t = 0; t < 3; t++) {
        fixture f = open_fixture(tokenizers[t]);
        lb_samples samples;
        lb_error err;
        const size_t least = f.count + f.bos;
        assert_int_equal(lb_samples_create(f.tokenizer, text, strlen(text), 1, least + 1, 0, &samples, &err),
                         LB_EINVAL);
        assert_int_equal(lb_samples_create(f.tokenizer, "", 0, 1, 16, 0, &samples, &err), LB_EINVAL);
        assert_int_equal(lb_samples_create(f.tokenizer, text, strlen(text), 0, 16, 0, &samples, &err),
                         LB_EINVAL);
        assert_int_equal(lb_samples_create(f.tokenizer, text, strlen(text), 1, 1, 0, &samples, &err),
                         LB_EINVAL);
        assert_int_equal(lb_samples_create(f.tokenizer, text, strlen(text), 1, SIZE_MAX, 0, &samples, &err),
                         LB_EINVAL);
        close_fixture(&f);
    }
}

static void lack_of_memory_is_said(void **state)
{
    (void)state;
    fixture f = open_fixture("gpt2");
    lb_status st = LB_ENOMEM;
    size_t k = 0;
    while (st != LB_OK) {
        lb_samples samples;
        lb_error err;
        assert_true(++k < 5000);
        lb_alloc_fail_at(k);
        st = lb_samples_create(f.tokenizer, text, 200, 2, 16, 0, &samples, &err);
        assert_true(st == LB_OK || st == LB_ENOMEM);
        if (st == LB_OK)
            lb_samples_free(&samples);
    }
    lb_alloc_fail_at(0);
    assert_true(k > 3);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_of_the_text),
        cmocka_unit_test(chosen_evenly),
        cmocka_unit_test(too_little_is_refused),
        cmocka_unit_test(lack_of_memory_is_said),
    };
    return cmocka_run_group_tests(tests, write_text, NULL);
}
