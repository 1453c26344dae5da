/* SPDX-License-Identifier: MIT
 * The public way to generate: stopping, cancelling, re-use of a common prefix, and what is refused. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "lowbit/generate.h"
#include "tiny_model.h"

typedef struct gathered {
    char text[4096];
    size_t length;
    int pieces, stop_after; /* 0: never */
} gathered;

static int gather(void *user, const char *text, size_t length)
{
    gathered *g = user;
    assert_true(length > 0 && g->length + length < sizeof g->text);
    memcpy(g->text + g->length, text, length);
    g->length += length;
    return ++g->pieces == g->stop_after;
}

static char folder[64];

static lb_generator *open_tiny(const tiny_model_options *options, size_t context)
{
    lb_generator_options open_options;
    lb_generator_options_init(&open_options);
    lb_generator *generator;
    lb_error err = {0};
    open_options.context = context;
    assert_int_equal(tiny_model_write(folder, options), 0);
    if (lb_generator_open(folder, &open_options, &generator, &err) != LB_OK)
        fail_msg("%s", err.msg);
    tiny_model_remove(folder);
    return generator;
}

static const tiny_model_options usual = {.seed = 21, .tokenizer = TINY_BPE};

static lb_generate_options into(gathered *g, size_t max_tokens)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    *g = (gathered){.length = 0};
    o.max_tokens = max_tokens;
    o.ignore_end = true;
    o.on_text = gather;
    o.user = g;
    return o;
}

static void the_same_seed_gives_the_same_text(void **state)
{
    (void)state;
    lb_generator *generator = open_tiny(&usual, 0);
    gathered a, b, c;
    lb_error err;
    lb_generate_result result;
    assert_int_equal(lb_generator_context(generator), 128);
    lb_generate_options o = into(&a, 30);
    assert_int_equal(lb_generate_text(generator, "the end", 7, &o, &result, &err), LB_OK);
    assert_int_equal(result.generated_tokens, 30);
    assert_int_equal(result.stop, LB_STOP_LENGTH);
    assert_true(a.length > 0);
    lb_thread_set_count(1);
    o = into(&b, 30);
    assert_int_equal(lb_generate_text(generator, "the end", 7, &o, &result, &err), LB_OK);
    lb_thread_set_count(0);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.text, b.text, a.length);
    o = into(&c, 30);
    o.seed++;
    assert_int_equal(lb_generate_text(generator, "the end", 7, &o, &result, &err), LB_OK);
    assert_false(a.length == c.length && memcmp(a.text, c.text, a.length) == 0);
    lb_generator_close(generator);
}

/* What is re-used must not be seen in the result. */
static void a_common_prefix_is_read_once(void **state)
{
    (void)state;
    lb_generator *one = open_tiny(&usual, 0), *fresh = open_tiny(&usual, 0);
    gathered a, b;
    lb_error err;
    lb_generate_result result;
    lb_generate_options o = into(&a, 12);
    o.temperature = 0;
    const uint32_t first[] = {72, 101, 108, 108, 111}, second[] = {72, 101, 108, 110, 33, 64};
    assert_int_equal(lb_generate(one, first, 5, &o, &result, &err), LB_OK);
    assert_int_equal(result.reused_tokens, 0);
    assert_int_equal(lb_generate(one, first, 5, &o, &result, &err), LB_OK);
    assert_int_equal(result.reused_tokens, 4); /* the last one is needed for its logits */
    o = into(&a, 12);
    o.temperature = 0;
    assert_int_equal(lb_generate(one, second, 6, &o, &result, &err), LB_OK);
    assert_int_equal(result.reused_tokens, 3);
    assert_int_equal(result.prompt_tokens, 6);
    o = into(&b, 12);
    o.temperature = 0;
    assert_int_equal(lb_generate(fresh, second, 6, &o, &result, &err), LB_OK);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.text, b.text, a.length);
    lb_generator_close(one);
    lb_generator_close(fresh);
}

static int cancel_at_third(void *user, const char *stage, size_t done, size_t total)
{
    (void)stage;
    (void)done;
    (void)total;
    return ++*(int *)user >= 3;
}

static void it_stops_when_asked(void **state)
{
    (void)state;
    lb_generator *generator = open_tiny(&usual, 20);
    gathered g;
    lb_error err;
    lb_generate_result result;
    int calls = 0;
    const uint32_t ids[] = {65, 66, 67};
    lb_generate_options o = into(&g, 10);
    g.stop_after = 2;
    assert_int_equal(lb_generate(generator, ids, 3, &o, &result, &err), LB_OK);
    assert_int_equal(result.stop, LB_STOP_CALLER);
    assert_int_equal(g.pieces, 2);

    o = into(&g, 10);
    o.progress = (lb_progress){cancel_at_third, &calls};
    assert_int_equal(lb_generate(generator, ids, 3, &o, &result, &err), LB_ECANCELED);
    assert_int_equal(result.generated_tokens, 2);

    o = into(&g, 0); /* as long as there is room: the last token needs none */
    assert_int_equal(lb_generate(generator, ids, 3, &o, &result, &err), LB_OK);
    assert_int_equal(result.stop, LB_STOP_CONTEXT);
    assert_int_equal(result.generated_tokens, 18);
    assert_int_equal(lb_generate(generator, ids, 3, &o, NULL, NULL), LB_OK); /* nobody wants to know */
    lb_generator_close(generator);
}

/* A model that always says <|im_end|>: its head's row has the only positive logit. */
static void an_end_token_ends(void **state)
{
    (void)state;
    tiny_model_options options = {.seed = 3, .tokenizer = TINY_BYTES, .vocab = 259};
    tiny_model *m = tiny_model_make(&options);
    lb_generator_options open_options;
    lb_generator_options_init(&open_options);
    lb_generator *generator;
    lb_error err;
    lb_generate_result result;
    gathered g;
    for (size_t i = 0; i < m->count; i++) {
        tiny_tensor *t = &m->tensors[i];
        if (strcmp(t->name, "lm_head.weight") == 0)
            for (size_t k = 0; k < 258 * t->cols; k++)
                t->values[k] = t->values[258 * t->cols + k % t->cols] * 0.5f;
        /* Whatever x is, row 258 is twice all others: it wins or loses by the sign of its product. */
    }
    assert_int_equal(tiny_model_save(folder, m), 0);
    tiny_model_free(m);
    assert_int_equal(lb_generator_open(folder, &open_options, &generator, &err), LB_OK);
    tiny_model_remove(folder);
    lb_generate_options o = into(&g, 1);
    o.temperature = 0;
    int ended = 0, went_on = 0;
    for (uint32_t id = 0; id < 40; id++) {
        o.ignore_end = false;
        assert_int_equal(lb_generate(generator, &id, 1, &o, &result, &err), LB_OK);
        assert_int_equal(result.generated_tokens, 1);
        ended += result.stop == LB_STOP_END;
        went_on += result.stop == LB_STOP_LENGTH;
        o.ignore_end = true;
        assert_int_equal(lb_generate(generator, &id, 1, &o, &result, &err), LB_OK);
        assert_int_equal(result.stop, LB_STOP_LENGTH);
    }
    assert_true(ended > 5 && went_on > 5);
    lb_generator_close(generator);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    lb_generator *generator = open_tiny(&usual, 8);
    gathered g;
    lb_error err;
    lb_generate_result result;
    const uint32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, outside[] = {65, 4000};
    lb_generate_options o = into(&g, 4);
    assert_int_equal(lb_generate(generator, ids, 5, &o, &result, &err), LB_OK);
    assert_int_equal(lb_generate(generator, ids, 6, &o, &result, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "context of 8"));
    assert_int_equal(lb_generate(generator, ids, 9, &o, &result, &err), LB_EINVAL);
    assert_int_equal(lb_generate(generator, ids, 0, &o, &result, &err), LB_EINVAL);
    assert_int_equal(lb_generate_text(generator, "", 0, &o, &result, &err), LB_EINVAL); /* it adds no BOS */
    assert_int_equal(lb_generate(generator, outside, 2, &o, &result, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "4000"));
    o.temperature = -1;
    assert_int_equal(lb_generate(generator, ids, 2, &o, &result, &err), LB_EINVAL);
    o = into(&g, 4);
    o.struct_size = 0;
    assert_int_equal(lb_generate(generator, ids, 2, &o, &result, &err), LB_EINVAL);
    lb_generator_close(generator);
}

static int cancel_at_once(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    (void)stage;
    (void)done;
    (void)total;
    return 1;
}

static void opening_refuses_what_does_not_belong_together(void **state)
{
    (void)state;
    lb_generator_options o;
    lb_generator_options_init(&o);
    lb_generator *generator = NULL;
    lb_error err;
    tiny_model_options options = {.seed = 1, .tokenizer = TINY_BYTES, .vocab = 258}; /* ids go up to 258 */
    assert_int_equal(tiny_model_write(folder, &options), 0);
    assert_int_equal(lb_generator_open(folder, &o, &generator, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "258 rows"));
    options.vocab = 259;
    assert_int_equal(tiny_model_write(folder, &options), 0);
    o.context = 129;
    assert_int_equal(lb_generator_open(folder, &o, &generator, &err), LB_EINVAL);
    o.context = 0;
    o.cpu = "z80";
    assert_int_equal(lb_generator_open(folder, &o, &generator, &err), LB_EINVAL);
    o.cpu = "ref";
    o.progress.fn = cancel_at_once;
    assert_int_equal(lb_generator_open(folder, &o, &generator, &err), LB_ECANCELED);
    assert_null(generator);
    o.progress.fn = NULL;
    assert_int_equal(lb_generator_open(folder, &o, &generator, &err), LB_OK);
    lb_generator_close(generator);
    tiny_model_remove(folder);
    assert_int_not_equal(lb_generator_open(folder, &o, &generator, &err), LB_OK);
    lb_generator_close(NULL);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/lowbit_test_generate_%ld", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_text),
        cmocka_unit_test(a_common_prefix_is_read_once),
        cmocka_unit_test(it_stops_when_asked),
        cmocka_unit_test(an_end_token_ends),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(opening_refuses_what_does_not_belong_together),
    };
    return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
