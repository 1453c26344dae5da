/* SPDX-License-Identifier: MIT */
#include "cli/formats_plot.h"

#include <math.h>
#include <stdio.h>

#include "analyze/distribution.h"
#include "analyze/qsnr_measure.h"
#include "base/alloc.h"
#include "cli/formats_rows.h"
#include "report/plot.h"

enum { CURVE_POINTS = 61, MEASURED_VALUES = 1 << 17, MEASURED_MAX = 16, FORMATS_MAX = 24 };
static const double first_crest = 1.5, measured_step = 0.5;

typedef struct curve {
    double crest[CURVE_POINTS], db[CURVE_POINTS];
    double measured_crest[MEASURED_MAX], measured_db[MEASURED_MAX];
    size_t measured;
} curve;

/* Formats without blocks have no crest factor of a block. */
static bool has_curve(const lb_format *format)
{
    return format->group > 0 && isfinite(lb_theory_qsnr(LB_THEORY_GRID, format, 2.0, format->group));
}

static void compute(const lb_format *format, curve *c)
{
    const double most = fmin(sqrt((double)format->group), 6.0) * 0.995;
    for (int i = 0; i < CURVE_POINTS; i++) {
        c->crest[i] = first_crest + (most - first_crest) * i / (CURVE_POINTS - 1);
        c->db[i] = lb_theory_qsnr(LB_THEORY_GRID, format, c->crest[i], format->group);
    }
}

/* At the crest factors that blocks of normal values can be brought to. */
static lb_status measure(const lb_format *format, const lb_kernels *kernels, uint64_t seed, float *x,
                         curve *c, lb_error *err)
{
    for (double crest = 2.0; crest < 6.0 && c->measured < MEASURED_MAX; crest += measured_step) {
        char name[48];
        lb_distribution d;
        lb_format bound = *format;
        lb_qsnr sum = {0};
        snprintf(name, sizeof name, "gaussian-crest:%g", crest);
        LB_TRY(lb_distribution_parse(name, &d, err));
        if (lb_distribution_check(&d, format->group, NULL) != LB_OK)
            continue;
        lb_distribution_fill(&d, seed, format->group, x, MEASURED_VALUES);
        lb_format_bind(&bound, x, MEASURED_VALUES);
        LB_TRY(lb_qsnr_add(kernels, &bound, x, 1, MEASURED_VALUES, name, &sum, err));
        c->measured_crest[c->measured] = crest;
        c->measured_db[c->measured++] = lb_qsnr_db(&sum);
    }
    return LB_OK;
}

typedef struct crossings {
    double crest[LB_PAIRS_MAX], db[LB_PAIRS_MAX];
    char texts[LB_PAIRS_MAX][16];
    const char *labels[LB_PAIRS_MAX];
    size_t count;
} crossings;

static void find_crossings(const lb_format_list *list, crossings *c)
{
    lb_format_pair pairs[LB_PAIRS_MAX];
    const size_t count = lb_format_pairs(list, pairs);
    for (size_t i = 0; i < count; i++) {
        double *crest = &c->crest[c->count], *db = &c->db[c->count];
        if (!lb_theory_crossover(LB_THEORY_GRID, pairs[i].integer, pairs[i].floating, crest, db))
            continue;
        snprintf(c->texts[c->count], sizeof *c->texts, "%.2f", *crest);
        c->labels[c->count] = c->texts[c->count];
        c->count++;
    }
}

static lb_status draw(const lb_format *const *formats, const curve *curves, size_t count, const crossings *at,
                      const char *path, lb_error *err)
{
    lb_plot_series series[2 * FORMATS_MAX + 1];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const unsigned color = (unsigned)i % (LB_PLOT_COLORS - 1) + 1; /* the last is for crossovers */
        series[n++] = (lb_plot_series){.label = formats[i]->name,
                                       .x = curves[i].crest,
                                       .y = curves[i].db,
                                       .n = CURVE_POINTS,
                                       .color = color,
                                       .dashed = i >= LB_PLOT_COLORS - 1};
        series[n++] = (lb_plot_series){.x = curves[i].measured_crest,
                                       .y = curves[i].measured_db,
                                       .n = curves[i].measured,
                                       .style = LB_PLOT_POINTS,
                                       .color = color};
    }
    if (at->count > 0)
        series[n++] = (lb_plot_series){.label = "integers and floats equal",
                                       .x = at->crest,
                                       .y = at->db,
                                       .labels = at->labels,
                                       .n = at->count,
                                       .style = LB_PLOT_POINTS,
                                       .color = LB_PLOT_COLORS};
    const lb_plot plot = {.title = "Number formats: theory (lines) and measurement (points)",
                          .x_title = "crest factor of a block, max |x| / rms",
                          .y_title = "QSNR (dB)",
                          .series = series,
                          .series_count = n,
                          .width = 960,
                          .height = 600};
    return lb_plot_write(&plot, path, err);
}

lb_status lb_formats_plot(const lb_format_list *list, const lb_kernels *kernels, uint64_t seed,
                          const char *path, lb_error *err)
{
    const lb_format *formats[FORMATS_MAX];
    crossings at = {.count = 0};
    size_t count = 0;
    curve *curves = NULL;
    float *x = NULL;
    lb_status st = LB_OK;
    for (size_t i = 0; i < list->count; i++) {
        if (!has_curve(&list->items[i]))
            continue;
        if (count == FORMATS_MAX)
            return lb_fail(err, LB_EINVAL, "--plot draws at most %d formats", FORMATS_MAX);
        formats[count++] = &list->items[i];
    }
    if (count == 0)
        return lb_fail(err, LB_EINVAL, "--plot: the theory knows none of these formats");
    LB_GO(lb_alloc_array(&x, MEASURED_VALUES, sizeof *x, "a plot", err));
    curves = lb_alloc_zero(count, sizeof *curves);
    if (!curves) {
        st = lb_fail(err, LB_ENOMEM, "a plot: no memory for its curves");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        compute(formats[i], &curves[i]);
        LB_GO(measure(formats[i], kernels, seed, x, &curves[i], err));
    }
    find_crossings(list, &at);
    st = draw(formats, curves, count, &at, path, err);
done:
    lb_free(x);
    lb_free(curves);
    return st;
}
