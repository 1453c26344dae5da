/* SPDX-License-Identifier: MIT
 * Perplexity and divergence against the same numbers computed by hand in double, with the transformer of
 * tests/reference_model.h and the statistics written out once more. */
#define _GNU_SOURCE
#include "eval_case.h"
#include "reference_model.h"

#include "base/alloc.h"
#include "base/thread.h"

enum { BOS = 256, TEXT_BYTES = 200 };

static const tiny_model_options plain = {.seed = 31,
                                         .hidden = 48,
                                         .ffn = 40,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .context = 64,
                                         .tokenizer = TINY_BYTES};

static const char *const sentence =
    "A text of two hundred bytes, each of which is a token of its own in the tiny tokenizer, so that the ids "
    "can be "
    "written down without it: they are the bytes. Some more words, 0123456789, and then it ends.....";

/* The same model with a tokenizer that puts <|endoftext|> before a text. */
static const char *model_with_bos(void)
{
    const char *folder = tiny_in_work("bos", &plain);
    json_t *config = reader_json(folder, "tokenizer_config.json");
    json_object_set_new(config, "add_bos_token", json_true());
    json_object_set_new(config, "bos_token", json_string("<|endoftext|>"));
    assert_int_equal(json_dump_file(config, in_work("bos/tokenizer_config.json"), 0), 0);
    json_decref(config);
    return folder;
}

/* ---- The same by hand ---------------------------------------------------------------------------------- */

/* log softmax of all positions of all windows: [count, CTX, vocab]. */
static double *log_probabilities(const tiny_model *m, const uint32_t *ids, size_t count)
{
    const size_t vocab = m->options.vocab;
    double *p = malloc(count * CTX * vocab * sizeof *p);
    for (size_t w = 0; w < count; w++)
        reference_logits(m, ids + w * CTX, CTX, p + w * CTX * vocab);
    for (size_t t = 0; t < count * CTX; t++) {
        double largest = -INFINITY, sum = 0;
        for (size_t i = 0; i < vocab; i++)
            largest = fmax(largest, p[t * vocab + i]);
        for (size_t i = 0; i < vocab; i++)
            sum += exp(p[t * vocab + i] - largest);
        for (size_t i = 0; i < vocab; i++)
            p[t * vocab + i] -= largest + log(sum);
    }
    return p;
}

static void mean_and_error(const double *x, size_t n, double *mean, double *error)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    *mean = sum / (double)n;
    *error = sqrt(squares / ((double)n - 1)) / sqrt((double)n);
}

static void near_value(double got, double want, double bound, const char *what)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s is %.12g, wanted %.12g", what, got, want);
}

/* Logits of some tens in float are off by about 1e-5: what follows from them, by no more than ten times
 * that. */
static const double BOUND = 1e-4;

/* Positions that predict: `first` .. CTX - 2 of each window; ids as the protocol makes them. */
static void check_score(const lb_eval_result *r, const tiny_model *m, const uint32_t *ids, size_t count,
                        size_t first)
{
    const size_t vocab = m->options.vocab, each = CTX - 1 - first;
    double *p = log_probabilities(m, ids, count), *nll = malloc(count * each * sizeof *nll), mean, error;
    size_t n = 0;
    for (size_t w = 0; w < count; w++)
        for (size_t t = first; t + 1 < CTX; t++)
            nll[n++] = -p[(w * CTX + t) * vocab + ids[w * CTX + t + 1]];
    mean_and_error(nll, n, &mean, &error);
    assert_int_equal(r->ctx, CTX);
    assert_int_equal(r->windows, count);
    assert_int_equal(r->tokens, n);
    near_value(r->model.nll_mean, mean, BOUND, "mean NLL");
    near_value(r->model.nll_stderr, error, BOUND, "its standard error");
    near_value(r->model.perplexity / exp(mean), 1, BOUND, "perplexity");
    near_value(r->model.perplexity_stderr / (exp(mean) * error), 1, 10 * BOUND, "its standard error");
    free(p);
    free(nll);
}

static void both_protocols_are_what_they_say(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&plain);
    uint32_t ids[TEXT_BYTES + 1];
    /* No BOS: the ids are the bytes. */
    for (size_t i = 0; i < TEXT_BYTES; i++)
        ids[i] = (unsigned char)sentence[i];
    lb_eval_options o = options_for(tiny_in_work("plain", &plain));
    lb_eval_result r = must_evaluate(&o);
    check_score(&r, m, ids, TEXT_BYTES / CTX, 0);
    o.protocol = LB_PROTOCOL_HALF;
    r = must_evaluate(&o);
    check_score(&r, m, ids, TEXT_BYTES / CTX, CTX / 2);
    /* With BOS: once at the very start, or in the place of every window's first token. */
    ids[0] = BOS;
    for (size_t i = 0; i < TEXT_BYTES; i++)
        ids[i + 1] = (unsigned char)sentence[i];
    o = options_for(model_with_bos());
    r = must_evaluate(&o);
    check_score(&r, m, ids, (TEXT_BYTES + 1) / CTX, 0);
    o.protocol = LB_PROTOCOL_HALF;
    r = must_evaluate(&o);
    for (size_t i = 0; i < TEXT_BYTES; i += CTX)
        ids[i] = BOS;
    check_score(&r, m, ids, (TEXT_BYTES + 1) / CTX, CTX / 2);
    tiny_model_free(m);
}

/* ---- Divergence ---------------------------------------------------------------------------------------- */

static void a_model_does_not_differ_from_itself(void **state)
{
    (void)state;
    lb_eval_options o = options_for(tiny_in_work("plain", &plain));
    o.against = o.model;
    const lb_eval_result r = must_evaluate(&o);
    assert_true(r.kl_mean == 0.0 && r.kl_stderr == 0.0 && r.kl_median == 0.0 && r.kl_p99 == 0.0);
    assert_true(r.top1_agreement == 100.0 && r.top1_stderr == 0.0);
    assert_memory_equal(&r.model, &r.reference, sizeof r.model);
}

/* The model as it was stored: the second reader's weights in the place of the original ones. */
static tiny_model *model_as_stored(const tiny_model_options *options, const char *folder)
{
    tiny_model *m = tiny_model_make(options);
    reader *r = reader_open(folder, m->options.layers);
    for (size_t i = 0; i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        char layer[96];
        if (t->rows == 0)
            continue;
        snprintf(layer, sizeof layer, "%s", t->name);
        layer[strlen(layer) - strlen(".weight")] = '\0';
        double *stored = reader_weight(r, layer, t->rows, t->cols);
        for (size_t k = 0; k < t->rows * t->cols; k++)
            t->values[k] = (float)stored[k];
        free(stored);
    }
    reader_close(r);
    return m;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void divergence_is_that_of_the_stored_weights(void **state)
{
    (void)state;
    static const char *const head[] = {"lm_head=int4-g32"};
    enum { COUNT = TEXT_BYTES / CTX, N = COUNT * (CTX - 1) };
    lb_quantize_options q = small_options(tiny_in_work("plain", &plain), in_work("int3"));
    lb_quantize_result result;
    uint32_t ids[TEXT_BYTES];
    double kl[N], mean, error;
    size_t n = 0, same = 0;
    q.format = "int3-g32";
    q.layer_rules = head;
    q.layer_rule_count = 1;
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    tiny_model *original = tiny_model_make(&plain), *stored = model_as_stored(&plain, q.output);
    const size_t vocab = original->options.vocab;
    for (size_t i = 0; i < TEXT_BYTES; i++)
        ids[i] = (unsigned char)sentence[i];
    double *p = log_probabilities(original, ids, COUNT), *s = log_probabilities(stored, ids, COUNT);
    for (size_t t = 0; t < COUNT * CTX; t++) {
        size_t best_p = 0, best_s = 0;
        if (t % CTX == CTX - 1)
            continue;
        kl[n] = 0;
        for (size_t i = 0; i < vocab; i++) {
            const double log_p = p[t * vocab + i], log_s = s[t * vocab + i];
            kl[n] += exp(log_p) * (log_p - log_s);
            best_p = log_p > p[t * vocab + best_p] ? i : best_p;
            best_s = log_s > s[t * vocab + best_s] ? i : best_s;
        }
        same += best_p == best_s;
        n++;
    }
    assert_int_equal(n, N);
    mean_and_error(kl, N, &mean, &error);
    qsort(kl, N, sizeof *kl, ascending);
    lb_eval_options o = options_for(q.output);
    o.against = q.model;
    const lb_eval_result r = must_evaluate(&o);
    check_score(&r, stored, ids, COUNT, 0);
    assert_true(mean > 0.05); /* far beyond the bound */
    near_value(r.kl_mean, mean, BOUND, "mean divergence");
    near_value(r.kl_stderr, error, BOUND, "its standard error");
    near_value(r.kl_median, N % 2 ? kl[N / 2] : (kl[N / 2 - 1] + kl[N / 2]) / 2, BOUND, "median divergence");
    near_value(r.kl_p99, kl[(size_t)(0.99 * (N - 1))], BOUND, "99 % of divergences");
    const double share = (double)same / N;
    assert_true(share > 0.1 && share < 1);
    near_value(r.top1_agreement, 100 * share, 1e-9, "top-1 agreement");
    near_value(r.top1_stderr, 100 * sqrt(share * (1 - share) / N), 1e-9, "its standard error");
    /* Against the original the other way round: another number, but the same models. */
    o.model = q.model;
    o.against = q.output;
    const lb_eval_result back = must_evaluate(&o);
    assert_true(back.model.nll_mean == r.reference.nll_mean && back.reference.nll_mean == r.model.nll_mean);
    assert_true(back.kl_mean != r.kl_mean && back.top1_agreement == r.top1_agreement);
    free(p);
    free(s);
    tiny_model_free(original);
    tiny_model_free(stored);
}

/* Rounding while evaluating is what `quantize --method rtn` writes. */
static void rounding_on_the_fly_is_rtn(void **state)
{
    (void)state;
    lb_quantize_options q = small_options(tiny_in_work("plain", &plain), in_work("rtn"));
    lb_quantize_result result;
    q.method = "rtn";
    q.format = "int3-g32-asym";
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    lb_eval_options stored = options_for(q.output), rounded = options_for(q.model);
    rounded.cast = (lb_cast){.weights = q.format, .fit = "search"};
    const lb_eval_result a = must_evaluate(&stored), b = must_evaluate(&rounded);
    assert_true(a.model.nll_mean == b.model.nll_mean);
    assert_true(b.compares && b.kl_mean > 0.0 && b.kl_top25_mean > 0.0);
    rounded.cast = (lb_cast){.weights = "f32", .act = "f32"};
    const double own = must_evaluate(&rounded).model.nll_mean;
    assert_true(own != a.model.nll_mean);
    rounded.cast.act = "int8-row";
    const double act8 = must_evaluate(&rounded).model.nll_mean;
    rounded.cast.act = "int3-row";
    const double act3 = must_evaluate(&rounded).model.nll_mean;
    assert_true(act8 != own && fabs(act8 - own) < 0.1 && fabs(act3 - own) > fabs(act8 - own));
    stored.cast.weights = "int4-g32";
    must_refuse_eval(&stored, LB_EINVAL, "is quantized already; its weights cannot be rounded to int4-g32");
}

static void threads_do_not_change_scores(void **state)
{
    (void)state;
    const unsigned usual = lb_thread_count();
    lb_eval_options o = options_for(tiny_in_work("plain", &plain));
    lb_thread_set_count(1);
    const lb_eval_result a = must_evaluate(&o);
    lb_thread_set_count(2);
    const lb_eval_result b = must_evaluate(&o);
    lb_thread_set_count(usual);
    assert_memory_equal(&a.model, &b.model, sizeof a.model);
}

/* ---- Limits and refusals ------------------------------------------------------------------------------- */

static void windows_are_counted(void **state)
{
    (void)state;
    lb_eval_options o = options_for(tiny_in_work("plain", &plain));
    o.tokens = 3 * CTX - 1;
    assert_int_equal(must_evaluate(&o).windows, 2);
    o.tokens = 3 * CTX;
    assert_int_equal(must_evaluate(&o).windows, 3);
    o.tokens = 100000;
    assert_int_equal(must_evaluate(&o).windows, TEXT_BYTES / CTX);
    o.tokens = 0;
    o.ctx = 0; /* the model's maximum, since that is less than 2048 */
    assert_int_equal(must_evaluate(&o).ctx, 64);
    o.protocol = LB_PROTOCOL_HALF;
    assert_int_equal(must_evaluate(&o).ctx, 64);
    o.ctx = 2;
    o.protocol = LB_PROTOCOL_FULL;
    assert_int_equal(must_evaluate(&o).tokens, TEXT_BYTES / 2);
    o.ctx = 5; /* odd: positions 2 and 3 of 0..4 predict */
    o.protocol = LB_PROTOCOL_HALF;
    assert_int_equal(must_evaluate(&o).tokens, TEXT_BYTES / 5 * 2);
}

static int refuse_to_go_on(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    (void)stage;
    (void)done;
    (void)total;
    return 1;
}

static void what_cannot_be_scored_is_refused(void **state)
{
    (void)state;
    const tiny_model_options wider = {.seed = 5, .vocab = 300, .tokenizer = TINY_BYTES};
    const tiny_model_options shorter = {.seed = 5, .context = 16, .tokenizer = TINY_BYTES};
    const tiny_model_options mute = {.seed = 5}, small = {.seed = 5, .vocab = 100, .tokenizer = TINY_BYTES};
    const lb_eval_options good = options_for(tiny_in_work("plain", &plain));
    lb_eval_options o = good;
    o.ctx = 65;
    must_refuse_eval(&o, LB_EINVAL, "a context of 65 tokens is more than the 64 that");
    o.ctx = 1;
    must_refuse_eval(&o, LB_EINVAL, "a window of 1 tokens");
    o.ctx = 3;
    o.protocol = LB_PROTOCOL_HALF;
    must_refuse_eval(&o, LB_EINVAL, "at least 4 tokens, got 3");
    o = good;
    o.tokens = CTX - 1;
    must_refuse_eval(&o, LB_EINVAL, "the text has 23 tokens, less than one window of 24");
    scratch_write(in_work("empty"), "", 0);
    o = good;
    o.text = in_work("empty");
    must_refuse_eval(&o, LB_EINVAL, "the text has 0 tokens");
    o.text = in_work("absent");
    must_refuse_eval(&o, LB_EIO, "absent");
    o.text = NULL;
    must_refuse_eval(&o, LB_EINVAL, "a model and a text");
    o = good;
    o.against = tiny_in_work("wider", &wider);
    must_refuse_eval(&o, LB_EINVAL, "a vocabulary of 288, but its reference");
    o.against = tiny_in_work("shorter", &shorter);
    must_refuse_eval(&o, LB_EINVAL, "more than the 16 that");
    o.against = in_work("no_reference");
    must_refuse_eval(&o, LB_EIO, "no_reference");
    o = good;
    o.model = tiny_in_work("mute", &mute);
    must_refuse_eval(&o, LB_EFORMAT, "has no tokenizer");
    o.model = tiny_in_work("small", &small);
    must_refuse_eval(&o, LB_EFORMAT, "its tokenizer has ids up to 258, but the embedding only 100 rows");
    o = good;
    o.cast.weights = "int1-g32";
    must_refuse_eval(&o, LB_EINVAL, "\"int1-g32\" is not known");
    o = good;
    o.cast.act = "nothing";
    must_refuse_eval(&o, LB_EINVAL, "\"nothing\" is not known");
    o = good;
    o.cpu = "abacus";
    must_refuse_eval(&o, LB_EINVAL, "\"abacus\"");
    o = good;
    o.struct_size = 0;
    must_refuse_eval(&o, LB_EINVAL, "lb_eval_options says that it has 0 bytes");
    o = good;
    o.progress.fn = refuse_to_go_on;
    must_refuse_eval(&o, LB_ECANCELED, "interrupted");
}

/* Weights too large for float sums: infinities must not come out as a perplexity. */
static void scores_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    tiny_model *m = tiny_model_make(&plain);
    tiny_tensor *head = &m->tensors[m->count - 1];
    assert_string_equal(head->name, "lm_head.weight");
    for (size_t k = 0; k < head->rows * head->cols; k++)
        head->values[k] = k % 2 ? 3e38f : -3e38f;
    assert_int_equal(tiny_model_save(in_work("loud"), m), 0);
    tiny_model_free(m);
    lb_eval_options o = options_for(in_work("loud"));
    must_refuse_eval(&o, LB_EFORMAT, "computes logits that are not finite numbers");
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    lb_eval_options o = options_for(tiny_in_work("plain", &plain));
    const unsigned usual = lb_thread_count();
    const double wanted = must_evaluate(&o).model.nll_mean;
    size_t failures = 0, fine = 0;
    o.against = o.model;
    lb_thread_set_count(1);
    for (size_t k = 1; fine < 20; k++) {
        lb_eval_result r;
        lb_error err;
        lb_alloc_fail_at(k);
        const lb_status st = lb_evaluate(&o, &r, &err);
        lb_alloc_fail_at(0);
        fine = st == LB_OK ? fine + 1 : 0;
        failures += st != LB_OK;
        if (st == LB_OK ? r.model.nll_mean != wanted : st != LB_ENOMEM)
            fail_msg("allocation %zu: status %d", k, (int)st);
    }
    assert_true(failures > 100);
    lb_thread_set_count(usual);
}

/* ---- Real models ------------------------------------------------------------------------------------------ */

/* Perplexities that an independent program computed in float64 (reference.json beside each model). */
static void real_models_score_as_elsewhere(void **state)
{
    (void)state;
    static const char *const names[] = {"stories260K", "babyllama-361"};
    static const char text[] = "../shared/data/wikitext-2/wiki.test.raw";
    size_t compared = 0;
    for (size_t i = 0; i < 2; i++) {
        char folder[128];
        snprintf(folder, sizeof folder, "../shared/models/%s", names[i]);
        if (!scratch_exists(folder) || !scratch_exists(text))
            continue;
        json_t *reference = reader_json(folder, "reference.json");
        const json_t *entry = json_object_get(json_object_get(reference, "perplexity_first_2048_tokens"),
                                              "wikitext-2-raw/wiki.test.raw");
        const double wanted = json_number_value(json_object_get(entry, "ppl"));
        lb_eval_options o = options_for(folder);
        o.text = text;
        o.tokens = 2048;
        o.ctx = (size_t)json_integer_value(json_object_get(entry, "window"));
        const lb_eval_result r = must_evaluate(&o);
        assert_int_equal(r.tokens, json_integer_value(json_object_get(entry, "scored")));
        near_value(r.model.perplexity / wanted, 1, 1e-3, names[i]);
        json_decref(reference);
        compared++;
    }
    if (compared == 0) {
        print_message("no models in ../shared: left out\n");
        skip();
    }
}

static int make_text(void **state)
{
    if (make_work(state) != 0)
        return -1;
    assert_true(strlen(sentence) >= TEXT_BYTES);
    scratch_write(in_work("text"), sentence, TEXT_BYTES);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_protocols_are_what_they_say),
        cmocka_unit_test(a_model_does_not_differ_from_itself),
        cmocka_unit_test(divergence_is_that_of_the_stored_weights),
        cmocka_unit_test(rounding_on_the_fly_is_rtn),
        cmocka_unit_test(threads_do_not_change_scores),
        cmocka_unit_test(windows_are_counted),
        cmocka_unit_test(what_cannot_be_scored_is_refused),
        cmocka_unit_test(scores_that_are_no_numbers_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(real_models_score_as_elsewhere),
    };
    return cmocka_run_group_tests(tests, make_text, drop_work);
}
