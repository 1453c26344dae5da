/* SPDX-License-Identifier: MIT
 * See qsnr_theory.h. Names as in arXiv:2510.25602 section 4: M fraction bits, B bias, g block, t the least
 * normal value in units of the block's rms, w_norm and p_sub the energy of what is normal and the share of
 * what is subnormal. */
#include "analyze/qsnr_theory.h"

#include <math.h>

#include "analyze/qsnr_grid.h"

static double decibel(double ratio)
{
    return 10.0 * log10(ratio);
}

double lb_theorem_int(unsigned bits, double range, double crest, double rho, size_t block)
{
    const double base = range > 0.0 ? decibel(12.0 * range * range) : 4.78 + 6.02 * (double)bits;
    const double g = (double)block, error_free = block > 1 ? decibel(g / (g - 1.0)) : 0.0;
    return base - 20.0 * log10(rho) - 20.0 * log10(crest) + error_free;
}

static double normal_density(double t)
{
    return exp(-0.5 * t * t) * 0.39894228040143268;
}

static double upper_tail(double t)
{
    return 0.5 * erfc(t * 0.70710678118654752);
}

/* Noise over signal of theorem 2. */
static double float_noise(const lb_element *e, double mean_inverse_square, double crest, double rho,
                          size_t block)
{
    const double least = ldexp(1.0, e->min_exponent), step = ldexp(least, -(int)e->fraction_bits);
    const double max = (double)e->max, scale = rho * crest / max, t = scale * least;
    const double alpha = mean_inverse_square / 12.0 * ldexp(1.0, -2 * (int)e->fraction_bits);
    const double w_norm = 2.0 * (t * normal_density(t) + upper_tail(t)), p_sub = 1.0 - 2.0 * upper_tail(t);
    const double largest = block > 1 ? crest * crest / (double)block : 0.0; /* has no error */
    return alpha * (w_norm - largest) + scale * step * scale * step / 12.0 * p_sub;
}

double lb_theorem_float(const lb_element *element, double mean_inverse_square, double crest, double rho,
                        size_t block)
{
    const double noise = float_noise(element, mean_inverse_square, crest, rho, block);
    return noise > 0.0 ? -decibel(noise) : NAN;
}

/* The mean of theorem 2's noise over rho = 2^u, u uniform in [0, 1): Simpson's rule, smooth integrand. */
static double phase_float(const lb_element *e, double crest)
{
    enum { STEPS = 32 };
    double total = 0.0;
    for (int i = 0; i <= STEPS; i++) {
        const double weight = i == 0 || i == STEPS ? 1.0 : i % 2 ? 4.0 : 2.0;
        total += weight * float_noise(e, LB_PHASE_INVERSE_SQUARE, crest, exp2((double)i / STEPS), 0);
    }
    return -decibel(total / (3.0 * STEPS));
}

/* How the scale of a block follows, as far as the theorems know. */
typedef enum scale_kind { SCALE_UNKNOWN, SCALE_E8M0, SCALE_E4M3, SCALE_FLOAT } scale_kind;

static scale_kind kind_of(const lb_format *format)
{
    switch (format->rule) {
    case LB_SCALE_CEIL:
        return SCALE_E8M0;
    case LB_SCALE_TWO_LEVEL:
        return SCALE_E4M3;
    case LB_SCALE_EXACT:
        return SCALE_FLOAT;
    default:
        return SCALE_UNKNOWN;
    }
}

/* int4-g128 and the like: a float scale, and one sided use of the range -2^(bits-1). Of formats with two kinds of
 * elements nothing is known. */
static double plain_integers(lb_theory theory, const lb_format *format, double crest, size_t block)
{
    if (lb_format_is_float(format) || !format->symmetric || format->ops->kinds || theory == LB_THEORY_PAPER)
        return NAN;
    return lb_theorem_int(format->bits, ldexp(1.0, (int)format->bits - 1), crest, 1.0, block);
}

static double with_phases(const lb_element *e, scale_kind kind, double crest, size_t block)
{
    const double range = (double)e->max;
    if (kind == SCALE_E8M0)
        return e->twos_complement ? lb_theorem_int(e->bits, range, crest, sqrt(LB_PHASE_RHO_SQUARE), 0)
                                  : phase_float(e, crest);
    return e->twos_complement ? lb_theorem_int(e->bits, range, crest, 1.0, block)
                              : lb_theorem_float(e, LB_PHASE_INVERSE_SQUARE, crest, 1.0, block);
}

double lb_theory_qsnr(lb_theory theory, const lb_format *format, double crest, size_t block)
{
    const lb_element *e = format->element;
    if (!(crest >= 1.0))
        return NAN;
    if (!e)
        return plain_integers(theory, format, crest, block);
    if (theory == LB_THEORY_GRID)
        return -decibel(lb_grid_noise(format, crest, block));
    const scale_kind kind = kind_of(format);
    if (kind == SCALE_UNKNOWN)
        return NAN;
    if (theory == LB_THEORY_PHASE)
        return with_phases(e, kind, crest, block);
    const double rho = kind == SCALE_E8M0 ? LB_PAPER_RHO_E8M0 : kind == SCALE_E4M3 ? LB_PAPER_RHO_E4M3 : 1.0;
    const size_t error_free = kind == SCALE_E8M0 ? 0 : block;
    if (!e->twos_complement)
        return lb_theorem_float(e, 0.5, crest, rho, error_free);
    return lb_theorem_int(e->bits, theory == LB_THEORY_PAPER ? 0.0 : (double)e->max, crest, rho, error_free);
}

static double lead_of_integer(lb_theory theory, const lb_format *integer, const lb_format *floating,
                              double crest)
{
    return lb_theory_qsnr(theory, integer, crest, integer->group) -
           lb_theory_qsnr(theory, floating, crest, floating->group);
}

bool lb_theory_crossover(lb_theory theory, const lb_format *integer, const lb_format *floating, double *crest,
                         double *db)
{
    const double step = 0.05, start = 1.0 + step;
    const double end = theory == LB_THEORY_GRID ? sqrt((double)integer->group) : 20.0;
    double low = start, high = start;
    if (!(lead_of_integer(theory, integer, floating, start) > 0.0))
        return false;
    do {
        low = high;
        high = low + step;
        if (high >= end)
            return false;
    } while (lead_of_integer(theory, integer, floating, high) > 0.0);
    if (isnan(lead_of_integer(theory, integer, floating, high)))
        return false;
    for (int i = 0; i < 50; i++) {
        const double middle = 0.5 * (low + high);
        if (lead_of_integer(theory, integer, floating, middle) > 0.0)
            low = middle;
        else
            high = middle;
    }
    *crest = low;
    *db = lb_theory_qsnr(theory, floating, low, floating->group);
    return true;
}
