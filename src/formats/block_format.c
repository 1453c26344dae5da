/* SPDX-License-Identifier: MIT
 * See block_format.h. */
#include "formats/block_format.h"

#include <math.h>
#include <string.h>

#include "formats/bits.h"
#include "formats/mx.h"
#include "formats/nv.h"

static const uint32_t not_finite = 0x7f800000u;

/* Division for scales that are no powers of two: a reciprocal would round twice. */
static float scaled(float w, float scale)
{
    return scale == 0.0f ? 0.0f : w / scale;
}

static double weighted_error(const lb_format *format, float scale, const float *w, const float *importance,
                             size_t n)
{
    const float low = lb_block_low_max(format);
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t code = lb_element_encode(format->element, low, scaled(w[i], scale));
        const double d = (double)(scale * lb_element_decode(format->element, code)) - (double)w[i];
        total += (importance ? (double)importance[i] : 1.0) * d * d;
    }
    return total;
}

static void set_mx(float *params, int k)
{
    params[LB_BLOCK_SCALE] = lb_power_of_two(k);
}

static void set_nv(const lb_format *format, float *params, float factor)
{
    params[LB_NV_BLOCK_FACTOR] = factor;
    params[LB_BLOCK_SCALE] = factor * format->tensor_scale;
}

/* Neighbouring exponents: one above the rule's rarely pays, one or two below clip a few values so that all
 * others lie on a finer grid. */
static void search_mx(const lb_format *format, const float *w, const float *importance, size_t n, int k,
                      float *params)
{
    double least = HUGE_VAL;
    const int first = k > -125 ? k - 2 : -127, last = k < 127 ? k + 1 : 127;
    for (int at = last; at >= first; at--) {
        const double error = weighted_error(format, lb_power_of_two(at), w, importance, n);
        if (error < least) {
            least = error;
            set_mx(params, at);
        }
    }
}

/* E4M3 factors from half the rule's to a quarter more: about eleven of them. */
static void search_nv(const lb_format *format, const float *w, const float *importance, size_t n,
                      float factor, float *params)
{
    const uint8_t last = lb_element_encode(&lb_e4m3, 448.0f, 1.25f * factor);
    uint8_t at = lb_element_encode(&lb_e4m3, 448.0f, 0.5f * factor);
    double least = HUGE_VAL;
    for (; at <= last; at++) {
        const float candidate = lb_element_decode(&lb_e4m3, at);
        const double error = weighted_error(format, candidate * format->tensor_scale, w, importance, n);
        if (error < least) {
            least = error;
            set_nv(format, params, candidate);
        }
    }
}

/* Shrunk scales, as the integer formats' search has them. */
static void search_exact(const lb_format *format, const float *w, const float *importance, size_t n,
                         float scale, float *params)
{
    double least = HUGE_VAL;
    for (int i = 0; i <= 60; i++) {
        const float candidate = scale * (1.1f - 0.01f * (float)i);
        const double error = weighted_error(format, candidate, w, importance, n);
        if (error < least) {
            least = error;
            params[LB_BLOCK_SCALE] = candidate;
        }
    }
}

void lb_block_fit(const lb_format *format, const float *w, const float *importance, size_t n, lb_fit how,
                  float *params)
{
    const lb_element *e = format->element;
    const uint32_t largest = lb_block_largest(w, n);
    const bool search = how == LB_FIT_SEARCH && largest != 0 && largest < not_finite;
    if (largest >= not_finite) {
        for (unsigned i = 0; i < format->params; i++)
            params[i] = NAN;
    } else if (format->rule == LB_SCALE_TWO_LEVEL) {
        const float factor = lb_nv_factor(e, format->tensor_scale, largest);
        set_nv(format, params, factor);
        if (search)
            search_nv(format, w, importance, n, factor, params);
    } else if (format->rule == LB_SCALE_EXACT) {
        params[LB_BLOCK_SCALE] = lb_float_from_bits(largest) / e->max;
        if (search)
            search_exact(format, w, importance, n, params[LB_BLOCK_SCALE], params);
    } else {
        const int k = lb_mx_exponent(e, format->rule, largest);
        set_mx(params, k);
        if (search)
            search_mx(format, w, importance, n, k, params);
    }
}

void lb_block_round(const lb_format *format, const float *params, const float *w, size_t n, uint8_t *codes)
{
    const float low = lb_block_low_max(format), scale = params[LB_BLOCK_SCALE];
    if (isnan(scale)) { /* every value is NaN whatever its code */
        memset(codes, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = lb_element_encode(format->element, low, scaled(w[i], scale));
}

void lb_block_value(const lb_format *format, const float *params, const uint8_t *codes, size_t n, float *w)
{
    for (size_t i = 0; i < n; i++)
        w[i] = params[LB_BLOCK_SCALE] * lb_element_decode(format->element, codes[i]);
}

/* ---- Storage ----------------------------------------------------------------------------------------- */

enum { PART_CODES, PART_SCALES };

static unsigned scale_bytes(const lb_format *format)
{
    return format->rule == LB_SCALE_EXACT ? 4 : 1;
}

unsigned lb_block_parts(const lb_format *format, size_t cols, lb_format_part out[LB_FORMAT_MAX_PARTS])
{
    const unsigned bytes = scale_bytes(format);
    out[PART_CODES] = (lb_format_part){"codes", 1, lb_bits_bytes(cols, format->bits)};
    out[PART_SCALES] = (lb_format_part){"scales", bytes, lb_format_groups(format, cols) * bytes};
    return 2;
}

/* MX: 2^k -> k + 127, whose float has the exponent k + 127 (0 for the subnormal 2^-127). NaN -> 255. */
static void pack_scale(const lb_format *format, const float *params, uint8_t *out)
{
    const uint32_t bits = lb_float_bits(params[LB_BLOCK_SCALE]);
    if (format->rule == LB_SCALE_EXACT) {
        for (unsigned b = 0; b < 4; b++)
            out[b] = (uint8_t)(bits >> (8 * b));
    } else if (format->rule == LB_SCALE_TWO_LEVEL) {
        const float factor = params[LB_NV_BLOCK_FACTOR];
        *out = isnan(factor) ? 0x7f : lb_element_encode(&lb_e4m3, lb_e4m3.max, factor);
    } else {
        *out = (uint8_t)(bits >> 23);
    }
}

void lb_block_pack(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                   uint8_t *const *parts)
{
    const size_t groups = lb_format_groups(format, cols), bytes = scale_bytes(format);
    lb_bits_pack(codes, cols, format->bits, parts[PART_CODES]);
    for (size_t g = 0; g < groups; g++)
        pack_scale(format, params + g * format->params, parts[PART_SCALES] + g * bytes);
}

/* No code of a row may be a NaN, an infinity, or below the range of a symmetric integer format. */
static lb_status check_codes(const lb_format *format, const uint8_t *codes, size_t cols, lb_error *err)
{
    const lb_element *e = format->element;
    const unsigned lowest = 1u << (e->bits - 1); /* of integers: -2^(bits-1) */
    for (size_t i = 0; e->twos_complement && format->symmetric && i < cols; i++) {
        if (codes[i] == lowest)
            return lb_fail(err, LB_EFORMAT, "the code 0x%02x of column %zu is below the range of %s",
                           codes[i], i, format->name);
    }
    for (size_t i = 0; e->nan_code != LB_ELEMENT_NO_CODE && i < cols; i++) {
        if ((codes[i] & 0x7fu) > e->max_code)
            return lb_fail(err, LB_EFORMAT, "the %s code 0x%02x of column %zu is not a finite number",
                           e->name, codes[i], i);
    }
    return LB_OK;
}

static lb_status unpack_exact(const uint8_t *bytes, size_t g, float *params, lb_error *err)
{
    uint32_t bits = 0;
    for (unsigned b = 0; b < 4; b++)
        bits |= (uint32_t)bytes[b] << (8 * b);
    const float scale = lb_float_from_bits(bits);
    if (!(scale >= 0.0f && isfinite(scale)))
        return lb_fail(err, LB_EFORMAT, "the scale of block %zu is %g, want a finite number of at least 0", g,
                       (double)scale);
    params[LB_BLOCK_SCALE] = scale;
    return LB_OK;
}

static lb_status unpack_scale(const lb_format *format, const uint8_t *bytes, size_t g, float *params,
                              lb_error *err)
{
    if (format->rule == LB_SCALE_EXACT)
        return unpack_exact(bytes, g, params, err);
    if (format->rule == LB_SCALE_TWO_LEVEL) {
        if (*bytes > lb_e4m3.max_code)
            return lb_fail(err, LB_EFORMAT,
                           "the scale of block %zu is the E4M3 code 0x%02x, want 0x00 to 0x7e", g, *bytes);
        set_nv(format, params, lb_element_decode(&lb_e4m3, *bytes));
    } else {
        if (*bytes == 255)
            return lb_fail(err, LB_EFORMAT, "the scale of block %zu is NaN (E8M0 code 255)", g);
        set_mx(params, *bytes - 127);
    }
    return LB_OK;
}

lb_status lb_block_unpack(const lb_format *format, const uint8_t *const *parts, size_t cols, uint8_t *codes,
                          float *params, lb_error *err)
{
    const size_t groups = lb_format_groups(format, cols), bytes = scale_bytes(format);
    lb_bits_unpack(parts[PART_CODES], cols, format->bits, codes);
    LB_TRY(check_codes(format, codes, cols, err));
    for (size_t g = 0; g < groups; g++)
        LB_TRY(unpack_scale(format, parts[PART_SCALES] + g * bytes, g, params + g * format->params, err));
    return LB_OK;
}
