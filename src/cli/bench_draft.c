/* SPDX-License-Identifier: MIT */
#include "cli/bench_draft.h"

#include <stdio.h>

#include "base/alloc.h"
#include "calibrate/builtin_text.h"
#include "cli/sampling.h"

/* Bytes of text that certainly hold a prompt of so many tokens: no token of the text is that long. */
enum { BYTES_PER_TOKEN = 24 };

/* One continuation; tokens a second. */
static lb_status continue_text(const lb_draft_bench *b, lb_generator *generator, const uint32_t *ids,
                               bool alone, lb_generate_result *result, double *rate, lb_error *err)
{
    lb_generate_options o;
    lb_generate_options_init(&o);
    o.temperature = 0;
    o.max_tokens = b->generate;
    o.ignore_end = true;
    o.no_draft = alone;
    o.progress = b->progress;
    LB_TRY(lb_generate(generator, ids, b->prompt, &o, result, err));
    *rate = lb_decode_rate(result);
    return LB_OK;
}

static lb_status measure(const lb_draft_bench *b, lb_generator *generator, const uint32_t *ids, double *rates,
                         lb_draft_report *out, lb_error *err)
{
    lb_generate_result with = {0}, without = {0};
    double *const with_rates = rates, *const without_rates = rates + b->repeats,
                  *gains = rates + 2 * b->repeats;
    double warm_up;
    LB_TRY(continue_text(b, generator, ids, false, &with, &warm_up, err));
    for (size_t i = 0; i < b->repeats; i++) {
        LB_TRY(continue_text(b, generator, ids, true, &without, &without_rates[i], err));
        LB_TRY(continue_text(b, generator, ids, false, &with, &with_rates[i], err));
        gains[i] = without_rates[i] > 0 ? with_rates[i] / without_rates[i] : 0;
    }
    *out = (lb_draft_report){.draft = b->draft,
                             .drafted = with.drafted_tokens,
                             .accepted = with.accepted_tokens,
                             .passes = with.passes,
                             .generated = with.generated_tokens,
                             .with = lb_bench_spread_of(with_rates, b->repeats),
                             .without = lb_bench_spread_of(without_rates, b->repeats),
                             .gain = lb_bench_spread_of(gains, b->repeats)};
    return LB_OK;
}

lb_status lb_bench_draft(const lb_draft_bench *b, lb_draft_report *out, lb_error *err)
{
    lb_generator *generator = NULL;
    lb_generator_options o;
    uint32_t *ids = NULL;
    double *rates = NULL;
    size_t count, bytes = lb_builtin_calibration_size;
    lb_status st = LB_OK;
    lb_generator_options_init(&o);
    o.cpu = b->cpu;
    o.kv = b->kv;
    o.draft_path = b->draft;
    o.draft_tokens = b->draft_tokens;
    o.draft_confidence = b->confidence;
    o.progress = b->progress;
    o.context = b->prompt + b->generate;
    if (b->prompt < bytes / BYTES_PER_TOKEN)
        bytes = b->prompt * BYTES_PER_TOKEN;
    LB_GO(lb_alloc_array(&rates, 3 * b->repeats, sizeof *rates, "bench", err));
    LB_GO(lb_generator_open(b->model, &o, &generator, err));
    LB_GO(lb_tokenizer_encode(lb_generator_tokenizer(generator), (const char *)lb_builtin_calibration, bytes,
                              LB_ENCODE_DEFAULT_BOS, &ids, &count, err));
    if (count < b->prompt) {
        st = lb_fail(err, LB_EINVAL, "a prompt of %zu tokens was asked for, but the built-in text has %zu",
                     b->prompt, count);
        goto done;
    }
    LB_GO(measure(b, generator, ids, rates, out, err));
done:
    lb_ids_free(ids);
    lb_generator_close(generator);
    lb_free(rates);
    return st;
}

static double share(size_t part, size_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

json_t *lb_draft_json(const lb_draft_report *r)
{
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "model", r->draft,
                     "drafted_tokens", (json_int_t)r->drafted, "accepted_tokens", (json_int_t)r->accepted,
                     "acceptance", share(r->accepted, r->drafted), "tokens_per_pass",
                     share(r->generated - 1, r->passes), "decode_tokens_per_s", r->with.median,
                     "decode_tokens_per_s_without", r->without.median, "gain", r->gain.median, "gain_min",
                     r->gain.low, "gain_max", r->gain.high);
}

void lb_draft_print(const lb_draft_report *r)
{
    printf("\ndraft %s: %zu of %zu proposed tokens taken (%.0f%%), %.2f tokens a pass\n"
           "decode %.1f tokens/s with it, %.1f without: %.2f times (%.2f-%.2f)\n",
           r->draft, r->accepted, r->drafted, 100 * share(r->accepted, r->drafted),
           share(r->generated - 1, r->passes), r->with.median, r->without.median, r->gain.median, r->gain.low,
           r->gain.high);
}
