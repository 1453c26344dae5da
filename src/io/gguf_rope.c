/* SPDX-License-Identifier: MIT
 * Rotary scaling of GGUF files. A converter turns Llama 3's rule into one factor a frequency:
 *
 *   wavelength = 2 pi / frequency, in positions; L = original context
 *   factor_i = 1                                     where wavelength < L / high
 *            = factor                                where wavelength > L / low
 *            = 1 / ((1 - s) / factor + s)            between, with s = (L / wavelength - low) / (high - low)
 *
 * and here the rule is found again: s is a straight line in the frequency, so two factors that lie
 * between give it, and every factor must then agree. Only the ratios of L, low and high can be seen;
 * low is 1 in every published model unless the original context is known. */
#include "io/gguf_rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "io/gguf_internal.h"

enum { MAX_KEY = 128, MAX_HEAD_DIM = 1 << 16 };

typedef struct llama3_rule {
    double factor, low, high, context;
} llama3_rule;

static const double two_pi = 6.283185307179586476925;

static double frequency(double theta, size_t i, size_t count)
{
    return pow(theta, -(double)i / (double)count);
}

static double rule_factor(const llama3_rule *rule, double freq)
{
    double turns = rule->context * freq / two_pi; /* L / wavelength */
    if (turns > rule->high)
        return 1.0;
    if (turns < rule->low)
        return rule->factor;
    double s = (turns - rule->low) / (rule->high - rule->low);
    return 1.0 / ((1.0 - s) / rule->factor + s);
}

static bool rule_agrees(const llama3_rule *rule, const double *factors, size_t count, double theta)
{
    for (size_t i = 0; i < count; i++) {
        double got = rule_factor(rule, frequency(theta, i, count));
        if (!(fabs(got - factors[i]) <= 1e-4 * factors[i]))
            return false;
    }
    return true;
}

/* Factors that lie strictly between 1 and the last one; the first and the last of them define s. */
static bool find_rule(const double *factors, size_t count, double theta, double known_context,
                      llama3_rule *out)
{
    double factor = factors[count - 1];
    size_t first = count, last = count;
    for (size_t i = 0; i < count; i++) {
        if (factors[i] > 1.0 + 1e-6 && factors[i] < factor * (1.0 - 1e-6)) {
            first = first == count ? i : first;
            last = i;
        }
    }
    if (first == last)
        return false; /* none, or a single one: not enough to see a line */
    double f0 = frequency(theta, first, count), f1 = frequency(theta, last, count);
    double s0 = (1.0 / factors[first] - 1.0 / factor) / (1.0 - 1.0 / factor);
    double s1 = (1.0 / factors[last] - 1.0 / factor) / (1.0 - 1.0 / factor);
    double slope = (s0 - s1) / (f0 - f1), start = s1 - slope * f1; /* s = slope f + start */
    if (!(slope > 0.0) || !(start < 0.0))
        return false;
    /* s = (L f / 2 pi - low) / (high - low): slope = L / (2 pi width), start = -low / width. */
    double width = -1.0 / start, low = 1.0;
    if (known_context > 0.0) {
        width = known_context / (two_pi * slope);
        low = -start * width;
    }
    double context = two_pi * slope * width;
    llama3_rule plain = {factor, low, low + width, round(context)};
    llama3_rule tidy = {round(factor * 64.0) / 64.0, round(low * 64.0) / 64.0,
                        round((low + width) * 64.0) / 64.0, round(context)};
    if (tidy.low > 0.0 && tidy.high > tidy.low && rule_agrees(&tidy, factors, count, theta))
        *out = tidy; /* the numbers somebody wrote, not those that rounding left */
    else if (plain.context >= 1.0 && rule_agrees(&plain, factors, count, theta))
        *out = plain;
    else
        return false;
    return out->context >= 1.0 && out->context < 0x1p40;
}

static json_t *pack_factors(const double *factors, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_real(factors[i]));
    if (json_array_size(list) != count) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:s, s:o}", "rope_type", "factors", "factors", list);
}

static lb_status scaling_from_factors(const lb_gguf *gguf, const double *factors, size_t count, double theta,
                                      double known_context, json_t **out, lb_error *err)
{
    llama3_rule rule;
    bool plain = true;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(factors[i]) || !(factors[i] > 0.0))
            return lb_fail(err, LB_EFORMAT, "%s: factor %zu of rope_freqs.weight is %g, not positive",
                           gguf->path, i, factors[i]);
        plain = plain && factors[i] == 1.0;
    }
    if (plain)
        *out = json_null();
    else if (find_rule(factors, count, theta, known_context, &rule))
        *out = json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", rule.factor,
                         "low_freq_factor", rule.low, "high_freq_factor", rule.high,
                         "original_max_position_embeddings", (json_int_t)rule.context);
    else
        *out = pack_factors(factors, count);
    return *out ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for its rotary scaling", gguf->path);
}

static lb_status read_factors(const lb_gguf *gguf, const lb_tensor *tensor, double theta, size_t head_dim,
                              double known_context, json_t **out, lb_error *err)
{
    size_t count = lb_tensor_elems(tensor);
    float *stored = NULL;
    double *factors = NULL;
    if (head_dim > MAX_HEAD_DIM || count != head_dim / 2)
        return lb_fail(err, LB_EFORMAT, "%s: rope_freqs.weight holds %zu factors for heads of %zu",
                       gguf->path, count, head_dim);
    lb_status st;
    LB_GO(lb_alloc_array(&stored, count, sizeof *stored, gguf->path, err));
    LB_GO(lb_alloc_array(&factors, count, sizeof *factors, gguf->path, err));
    LB_GO(lb_tensor_read(tensor, 0, lb_tensor_rows(tensor), stored, err));
    for (size_t i = 0; i < count; i++)
        factors[i] = (double)stored[i];
    LB_GO(scaling_from_factors(gguf, factors, count, theta, known_context, out, err));
done:
    lb_free(stored);
    lb_free(factors);
    return st;
}

static bool span_is(lb_span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.data, text, span.length) == 0;
}

/* The keys ARCH.rope.scaling.*, and the older ARCH.rope.scale_linear. */
static lb_status scaling_from_keys(const lb_gguf *gguf, const char *arch, size_t context, json_t **out,
                                   lb_error *err)
{
    char key[MAX_KEY], shown[LB_GGUF_SHOWN_BYTES];
    static const char none[] = "none";
    lb_span type = {none, strlen(none)};
    double factor;
    snprintf(key, sizeof key, "%s.rope.scale_linear", arch);
    LB_TRY(lb_gguf_double(gguf, key, 1.0, &factor, err));
    bool old_linear = factor != 1.0;
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    LB_TRY(lb_gguf_string(gguf, key, type, &type, err));
    snprintf(key, sizeof key, "%s.rope.scaling.factor", arch);
    LB_TRY(lb_gguf_double(gguf, key, factor, &factor, err));
    bool linear = span_is(type, "linear") || (span_is(type, "none") && old_linear);
    if (!linear && !span_is(type, "yarn") && !span_is(type, "none"))
        return lb_fail(err, LB_EUNSUPPORTED, "%s: rotary scaling of type \"%s\", which lowbit does not know",
                       gguf->path, lb_gguf_show(type, shown));
    if ((linear || span_is(type, "yarn")) && !(factor > 0.0))
        return lb_fail(err, LB_EFORMAT, "%s: a rotary scaling factor of %g", gguf->path, factor);
    if (linear && factor != 1.0)
        *out = json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor);
    else if (span_is(type, "yarn") && context > 0)
        *out = json_pack("{s:s, s:f, s:I}", "rope_type", "yarn", "factor", factor,
                         "original_max_position_embeddings", (json_int_t)context);
    else if (span_is(type, "yarn"))
        *out = json_pack("{s:s, s:f}", "rope_type", "yarn", "factor", factor);
    else
        *out = json_null();
    return *out ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for its rotary scaling", gguf->path);
}

lb_status lb_gguf_rope_scaling(const lb_gguf *gguf, const char *arch, double theta, size_t head_dim,
                               json_t **out, lb_error *err)
{
    char key[MAX_KEY];
    size_t context;
    json_t *from_keys = NULL;
    const lb_tensor *factors = lb_gguf_tensor(gguf, "rope_freqs.weight");
    if (!factors)
        factors = lb_gguf_tensor(gguf, "blk.0.rope_freqs.weight");
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", arch);
    LB_TRY(lb_gguf_size(gguf, key, 1, UINT32_MAX, 0, &context, err));
    LB_TRY(scaling_from_keys(gguf, arch, context, &from_keys, err));
    if (!factors) {
        *out = from_keys;
        return LB_OK;
    }
    bool both = !json_is_null(from_keys);
    json_decref(from_keys);
    if (both)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: both a rope_freqs tensor and rotary scaling keys",
                       gguf->path);
    return read_factors(gguf, factors, theta, head_dim, (double)context, out, err);
}
