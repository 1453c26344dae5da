/* SPDX-License-Identifier: MIT
 * See sq.h for the format. Scales are searched as those of the integer formats are, for each kind on its own. */
#include "formats/sq.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/bits.h"
#include "formats/int_round.h"
#include "formats/kinds.h"
#include "formats/linear_format.h"

/* ---- Names ------------------------------------------------------------------------------------------- */

typedef struct parsed_name {
    unsigned high, low;
    size_t bank;
    unsigned long digits, power; /* S = digits / power */
} parsed_name;

/* Whether a name has this family's shape, whatever its numbers. */
static bool read_name(const char *name, parsed_name *out)
{
    char digits[9], again[LB_FORMAT_NAME_BYTES + 16];
    if (sscanf(name, "sq%1u/%1u-b%4zu-s0.%8[0-9]", &out->high, &out->low, &out->bank, digits) != 4)
        return false;
    /* sscanf forgives blanks, signs and leading zeros; a name must be spelled as it is printed. */
    snprintf(again, sizeof again, "sq%u/%u-b%zu-s0.%s", out->high, out->low, out->bank, digits);
    if (strcmp(name, again) != 0)
        return false;
    out->digits = strtoul(digits, NULL, 10);
    out->power = 1;
    for (size_t i = 0; i < strlen(digits); i++)
        out->power *= 10;
    return true;
}

static bool has_widths(const parsed_name *p)
{
    return p->low >= 2 && p->low <= 4 && p->high > p->low && p->high <= 8;
}

static bool has_bank(const parsed_name *p)
{
    return p->bank == 16 || p->bank == 32 || p->bank == 64 || p->bank == 128 || p->bank == 256;
}

/* Of a bank's elements (1 - S) B are high. */
static bool has_count(const parsed_name *p)
{
    return p->digits > 0 && p->bank * p->digits % p->power == 0;
}

static bool parse_sq(const char *name, lb_format *out)
{
    parsed_name p;
    if (!read_name(name, &p) || !has_widths(&p) || !has_bank(&p) || !has_count(&p) || p.digits % 10 == 0)
        return false;
    *out = (lb_format){.ops = &lb_sq_format,
                       .bits = 8,
                       .group = p.bank,
                       .symmetric = true,
                       .params = LB_SQ_PARAMS,
                       .low_bits = p.low,
                       .high_bits = p.high,
                       .high_count = p.bank - p.bank * p.digits / p.power};
    out->masked = out->high_count * p.low > p.bank;
    snprintf(out->name, sizeof out->name, "%s", name);
    return true;
}

static lb_status refuse_sq(const char *name, lb_error *err)
{
    parsed_name p;
    if (!read_name(name, &p))
        return LB_OK;
    if (!has_widths(&p))
        return lb_fail(
            err, LB_EINVAL,
            "format \"%.40s\": %u high and %u low bits, wanted 2 to 4 low ones and more high ones, "
            "at most 8",
            name, p.high, p.low);
    if (!has_bank(&p))
        return lb_fail(err, LB_EINVAL, "format \"%.40s\": a bank of %zu, wanted 16, 32, 64, 128 or 256", name,
                       p.bank);
    if (!has_count(&p))
        return lb_fail(err, LB_EINVAL,
                       "format \"%.40s\": a bank of %zu would have %g high elements, wanted a whole number "
                       "from 1 to %zu",
                       name, p.bank, (double)p.bank - (double)p.bank * (double)p.digits / (double)p.power,
                       p.bank - 1);
    return lb_fail(err, LB_EINVAL, "format \"%.40s\": write the low fraction without zeros at its end", name);
}

/* ---- Kinds, scales, codes ---------------------------------------------------------------------------- */

/* An element's place in the order of w^2 * score, counted for all at once: loops that compilers vectorise. */
static void choose_sq(const lb_format *format, const float *w, const float *score, size_t n, uint8_t *codes)
{
    const uint8_t low = lb_sq_code(format, false, 0), high = lb_sq_code(format, true, 0);
    double keys[LB_KINDS_MOST_GROUP];
    assert(n <= LB_KINDS_MOST_GROUP);
    for (size_t i = 0; i < n; i++) {
        const double key = (double)w[i] * (double)w[i] * (score ? (double)score[i] : 1.0);
        keys[i] = key <= DBL_MAX ? key : DBL_MAX; /* a NaN too has its place, or counts would not be exact */
    }
    for (size_t i = 0; i < n; i++) {
        size_t before = 0;
        for (size_t k = 0; k < i; k++)
            before += keys[k] >= keys[i];
        for (size_t k = i + 1; k < n; k++)
            before += keys[k] > keys[i];
        codes[i] = before < format->high_count ? high : low;
    }
}

/* The elements of one kind. */
typedef struct kind {
    float w[LB_KINDS_MOST_GROUP], importance[LB_KINDS_MOST_GROUP]; /* padded with zeros to a whole stride */
    size_t n;
    float top;
} kind;

enum { STRIDE = 8 };

static void gather(const lb_format *format, bool high, const float *w, const float *importance,
                   const uint8_t *codes, size_t n, kind *out)
{
    out->n = 0;
    out->top = (float)(high ? lb_sq_high_top(format) : lb_sq_low_top(format));
    for (size_t i = 0; i < n; i++) {
        if (lb_sq_is_high(format, codes[i]) != high)
            continue;
        out->w[out->n] = w[i];
        out->importance[out->n++] = importance ? importance[i] : 1.0f;
    }
    for (; out->n % STRIDE; out->n++)
        out->w[out->n] = out->importance[out->n] = 0.0f;
}

static double weighted_error(const kind *k, float scale)
{
    const float inverse = 1.0f / scale;
    float lanes[STRIDE] = {0};
    for (size_t i = 0; i < k->n; i += STRIDE) {
        for (size_t j = 0; j < STRIDE; j++) {
            const float w = k->w[i + j];
            const float d = lb_int_round_within(w * inverse, -k->top, k->top) * scale - w;
            lanes[j] += d * d * k->importance[i + j];
        }
    }
    double total = 0.0;
    for (size_t j = 0; j < STRIDE; j++)
        total += (double)lanes[j];
    return total;
}

/* The scale that fits the codes of `scale` best in the least-squares sense; 0 where they are all zero. */
static float refit(const kind *k, float scale)
{
    double wq = 0.0, qq = 0.0;
    for (size_t i = 0; i < k->n; i++) {
        const double h = (double)k->importance[i];
        const double q = (double)lb_int_round_within(k->w[i] / scale, -k->top, k->top);
        wq += h * q * (double)k->w[i];
        qq += h * q * q;
    }
    return qq > 0.0 ? (float)(wq / qq) : 0.0f;
}

/* How far below the largest weight a grid is worth ending, by how coarse it is. */
static float least_share(float top)
{
    return top <= 1.0f ? 0.25f : top <= 3.0f ? 0.45f : top <= 7.0f ? 0.55f : 0.85f;
}

static float search_scale(const kind *k, float from_range)
{
    const float step = 0.0125f;
    float best = from_range;
    double least = weighted_error(k, best);
    for (float share = 1.05f; share >= least_share(k->top); share -= step) {
        const float scale = lb_int_storable_scale(from_range * share);
        const double error = weighted_error(k, scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    for (int round = 0; round < 3; round++) {
        const float scale = lb_int_storable_scale(refit(k, best));
        if (!(scale > 0.0f) || !isfinite(1.0f / scale))
            break;
        const double error = weighted_error(k, scale);
        if (!(error < least))
            break;
        least = error;
        best = scale;
    }
    return best;
}

static float fit_kind(const kind *k, lb_fit how)
{
    float largest = 0.0f;
    for (size_t i = 0; i < k->n; i++)
        largest = fabsf(k->w[i]) > largest ? fabsf(k->w[i]) : largest;
    const float scale = lb_int_storable_scale(largest / k->top);
    return how == LB_FIT_RANGE || scale == 0.0f ? scale : search_scale(k, scale);
}

static void fit_kinds(const lb_format *format, const float *w, const float *importance, const uint8_t *codes,
                      size_t n, lb_fit how, float *params)
{
    kind k;
    assert(n <= LB_KINDS_MOST_GROUP);
    gather(format, false, w, importance, codes, n, &k);
    params[LB_SQ_LOW] = fit_kind(&k, how);
    gather(format, true, w, importance, codes, n, &k);
    params[LB_SQ_HIGH] = fit_kind(&k, how);
}

static void round_sq(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes)
{
    const float tops[] = {(float)lb_sq_low_top(format), (float)lb_sq_high_top(format)};
    float inverses[LB_SQ_PARAMS];
    for (unsigned i = 0; i < LB_SQ_PARAMS; i++)
        inverses[i] = params[i] == 0.0f ? 0.0f : 1.0f / params[i];
    for (size_t i = 0; i < n; i++) {
        const bool high = lb_sq_is_high(format, codes[i]);
        codes[i] = lb_sq_code(format, high,
                              (int)lb_int_round_within(w[i] * inverses[high], -tops[high], tops[high]));
    }
}

static void value_sq(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w)
{
    for (size_t i = 0; i < n; i++)
        w[i] = params[lb_sq_is_high(format, codes[i])] * (float)lb_sq_integer(format, codes[i]);
}

/* ---- Scales as coefficients -------------------------------------------------------------------------- */

static unsigned count_scales(const lb_format *format)
{
    return format->params;
}

static void basis_sq(const lb_format *format, const float *params, float *out)
{
    (void)params;
    for (unsigned k = 0; k < 1u << format->bits; k++, out += LB_SQ_PARAMS) {
        out[LB_SQ_LOW] = out[LB_SQ_HIGH] = 0.0f;
        out[lb_sq_is_high(format, (uint8_t)k)] = (float)lb_sq_integer(format, (uint8_t)k);
    }
}

static void get_scales(const lb_format *format, const float *params, float *coefficients)
{
    memcpy(coefficients, params, format->params * sizeof *params);
}

static void set_scales(const lb_format *format, const float *coefficients, float *params)
{
    for (unsigned i = 0; i < format->params; i++)
        params[i] = lb_int_storable_scale(coefficients[i]);
}

static const lb_linear_format_ops linear_sq = {
    .count = count_scales, .basis = basis_sq, .get = get_scales, .set = set_scales};

/* ---- Storage ----------------------------------------------------------------------------------------- */

enum { PART_CODES, PART_HIGH, PART_SCALES, PART_MASK };

static unsigned parts_of_row(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    const size_t banks = lb_format_groups(format, cols), high = banks * format->high_count;
    const size_t low = format->masked ? cols - high : cols;
    out[PART_CODES] = (lb_format_part){"codes", 1, lb_bits_bytes(low, format->low_bits)};
    out[PART_HIGH] = (lb_format_part){"high", 1, lb_bits_bytes(high, format->high_bits)};
    out[PART_SCALES] = (lb_format_part){"scales", 2, banks * LB_SQ_PARAMS * 2};
    if (!format->masked)
        return 3;
    out[PART_MASK] = (lb_format_part){"mask", 1, lb_bits_bytes(cols, 1)};
    return 4;
}

/* Codes of one width to or from a packed row, one after the other. */
typedef struct stream {
    uint8_t *to;
    const uint8_t *from;
    size_t left; /* codes that `from` still has */
    unsigned width;
    uint8_t window[512]; /* a multiple of eight codes is a whole number of bytes */
    size_t at, have;
} stream;

static void flush(stream *s)
{
    lb_bits_pack(s->window, s->at, s->width, s->to);
    s->to += lb_bits_bytes(s->at, s->width);
    s->at = 0;
}

static void put(stream *s, int integer)
{
    s->window[s->at++] = (uint8_t)((unsigned)integer & ((1u << s->width) - 1u));
    if (s->at == sizeof s->window)
        flush(s);
}

static int get(stream *s)
{
    if (s->at == s->have) {
        s->have = s->left < sizeof s->window ? s->left : sizeof s->window;
        lb_bits_unpack(s->from, s->have, s->width, s->window);
        s->from += lb_bits_bytes(s->have, s->width);
        s->left -= s->have;
        s->at = 0;
    }
    const int code = s->window[s->at++];
    return code >> (s->width - 1) ? code - (1 << s->width) : code;
}

static void pack_sq(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                    uint8_t *const *parts)
{
    stream low = {.to = parts[PART_CODES], .width = format->low_bits};
    stream high = {.to = parts[PART_HIGH], .width = format->high_bits};
    assert(cols % format->group == 0);
    if (format->masked)
        memset(parts[PART_MASK], 0, lb_bits_bytes(cols, 1));
    for (size_t i = 0; i < cols; i++) {
        const int q = lb_sq_integer(format, codes[i]);
        if (!lb_sq_is_high(format, codes[i])) {
            put(&low, q);
            continue;
        }
        put(&high, q);
        if (format->masked)
            parts[PART_MASK][i / 8] = (uint8_t)(parts[PART_MASK][i / 8] | 1u << (i % 8));
        else
            put(&low, -lb_sq_low_top(format) - 1);
    }
    flush(&low);
    flush(&high);
    for (size_t i = 0; i < lb_format_groups(format, cols) * LB_SQ_PARAMS; i++)
        lb_f16_write(params[i], parts[PART_SCALES] + 2 * i);
}

static lb_status unpack_scales(const lb_format *format, const uint8_t *bytes, size_t cols, float *params,
                               lb_error *err)
{
    for (size_t i = 0; i < lb_format_groups(format, cols) * LB_SQ_PARAMS; i++) {
        const float scale = lb_f16_read(bytes + 2 * i);
        if (!(scale >= 0.0f && isfinite(scale)))
            return lb_fail(err, LB_EFORMAT,
                           "the %s scale of bank %zu is %g, want a finite number of at least 0",
                           i % LB_SQ_PARAMS == LB_SQ_LOW ? "low" : "high", i / LB_SQ_PARAMS, (double)scale);
        params[i] = scale;
    }
    return LB_OK;
}

/* Low codes, and the zero of high ones where they are; a bank has to have as many of those as the format says, or the
 * streams would not belong together. */
static lb_status unpack_low(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                            lb_error *err)
{
    const int sentinel = -lb_sq_low_top(format) - 1;
    const size_t banks = lb_format_groups(format, cols), highs = banks * format->high_count;
    stream low = {.from = parts[PART_CODES], .width = format->low_bits};
    low.left = format->masked ? cols - highs : cols;
    for (size_t bank = 0; bank < banks; bank++) {
        size_t count = 0;
        for (size_t i = bank * format->group; i < (bank + 1) * format->group; i++)
            count += format->masked ? parts[PART_MASK][i / 8] >> (i % 8) & 1 : 0;
        for (size_t i = bank * format->group; i < (bank + 1) * format->group; i++) {
            const bool marked = format->masked && (parts[PART_MASK][i / 8] >> (i % 8) & 1);
            if (format->masked && count != format->high_count)
                break;
            const int q = marked ? 0 : get(&low);
            if (!format->masked)
                count += q == sentinel;
            else if (q == sentinel)
                return lb_fail(err, LB_EFORMAT, "the low code of column %zu is %d, below the range of %s", i,
                               q, format->name);
            codes[i] = lb_sq_code(format, marked || q == sentinel, marked || q == sentinel ? 0 : q);
        }
        if (count != format->high_count)
            return lb_fail(err, LB_EFORMAT, "bank %zu has %zu high elements, want %zu (%s)", bank, count,
                           format->high_count, format->name);
    }
    return LB_OK;
}

static lb_status unpack_high(const lb_format *format, const uint8_t *bytes, size_t cols, uint8_t *codes,
                             lb_error *err)
{
    const int top = lb_sq_high_top(format);
    stream high = {.from = bytes, .width = format->high_bits};
    high.left = lb_format_groups(format, cols) * format->high_count;
    for (size_t i = 0; i < cols; i++) {
        if (!lb_sq_is_high(format, codes[i]))
            continue;
        const int q = get(&high);
        if (q < -top || q > top)
            return lb_fail(err, LB_EFORMAT, "the high code of column %zu is %d, outside %d to %d of %s", i, q,
                           -top, top, format->name);
        codes[i] = lb_sq_code(format, true, q);
    }
    return LB_OK;
}

static lb_status unpack_sq(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                           float *params, lb_error *err)
{
    LB_TRY(lb_format_check_cols(format, cols, "row", err));
    LB_TRY(unpack_scales(format, parts[PART_SCALES], cols, params, err));
    LB_TRY(unpack_low(format, parts, cols, codes, err));
    return unpack_high(format, parts[PART_HIGH], cols, codes, err);
}

static const lb_kinds_ops kinds_sq = {.choose = choose_sq, .fit = fit_kinds};

/* What has no kinds yet gets them by what the fit weighs elements by. */
static void fit_sq(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                   float *params)
{
    uint8_t codes[LB_KINDS_MOST_GROUP];
    choose_sq(format, w, importance, n, codes);
    fit_kinds(format, w, importance, codes, n, how, params);
}

const lb_format_ops lb_sq_format = {
    .family = "sq",
    .syntax = "sqH/L-bB-sS with H high and L low bits, banks of B = 16 to 256 and a low fraction S, like "
              "sq8/4-b64-s0.875",
    .parse = parse_sq,
    .refuse = refuse_sq,
    .whole_groups = true,
    .fit = fit_sq,
    .round = round_sq,
    .value = value_sq,
    .parts = parts_of_row,
    .pack = pack_sq,
    .unpack = unpack_sq,
    .linear = &linear_sq,
    .kinds = &kinds_sq,
};
