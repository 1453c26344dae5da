/* SPDX-License-Identifier: MIT */
#include "cli/formats_rows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/kinds_text.h"
#include "cli/output.h"

/* ---- Rows ------------------------------------------------------------------------------------------ */

/* "31.52", "exact" or "-" right-aligned in eight columns. */
static void print_db(double db)
{
    if (isnan(db))
        printf(" %8s", "-");
    else if (isinf(db))
        printf(" %8s", "exact");
    else
        printf(" %8.2f", db);
}

void lb_print_formats_rows(const lb_formats_rows *rows)
{
    if (rows->count == 0)
        return;
    printf("%s, %zu values\n\n", rows->dist, rows->items[0].result.values);
    printf("%-19s %-9s %5s %-8s %8s %8s %8s   %-s\n", "format", "rule", "bits", "rotation", "QSNR dB",
           "theory", "paper", "crest factor: min, quartiles, max");
    for (size_t i = 0; i < rows->count; i++) {
        const lb_formats_row *row = &rows->items[i];
        const lb_crest_summary *c = &row->result.crest;
        printf("%-19s %-9s %5.2f %-8s", row->format->name, lb_rule_name(row->format),
               row->result.bits_per_value, row->rotated ? "hadamard" : "-");
        print_db(row->result.qsnr_db);
        print_db(row->result.theory_db);
        print_db(row->result.theory_paper_db);
        printf("   %.2f %.2f %.2f %.2f %.2f\n", c->min, c->q1, c->median, c->q3, c->max);
    }
    for (size_t i = 0; i < rows->count; i++)
        if (!rows->items[i].rotated)
            lb_print_kinds(rows->items[i].format);
}

static json_t *row_json(const lb_formats_rows *rows, const lb_formats_row *row)
{
    const lb_qsnr_result *r = &row->result;
    const lb_crest_summary *c = &r->crest;
    json_t *json = json_pack(
        "{s:s, s:s, s:o, s:I, s:o, s:o, s:o, s:b, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:I}}", "format",
        row->format->name, "rule", lb_rule_name(row->format), "dist", lb_json_text(rows->dist), "n",
        (json_int_t)r->values, "qsnr_db", lb_json_number(r->qsnr_db), "qsnr_theory_db",
        lb_json_number(r->theory_db), "qsnr_theory_paper_db", lb_json_number(r->theory_paper_db), "hadamard",
        row->rotated, "bits_per_weight", r->bits_per_value, "crest", "min", c->min, "q1", c->q1, "median",
        c->median, "q3", c->q3, "max", c->max, "mean", c->mean, "blocks", (json_int_t)c->blocks);
    return lb_kinds_add_json(row->format, json);
}

json_t *lb_formats_rows_json(const lb_formats_rows *rows)
{
    json_t *array = json_array();
    int failed = array == NULL;
    for (size_t i = 0; i < rows->count; i++)
        failed |= json_array_append_new(array, row_json(rows, &rows->items[i]));
    if (!failed)
        return array;
    json_decref(array);
    return NULL;
}

/* ---- Crossovers ------------------------------------------------------------------------------------ */

/* Elements that the paper sets against each other: the float with the most fraction bits of its size. */
static bool are_rivals(const lb_format *integer, const lb_format *floating)
{
    static const lb_element *const rivals[][2] = {
        {&lb_int8, &lb_e4m3}, {&lb_int6, &lb_e2m3}, {&lb_int4, &lb_e2m1}};
    for (size_t i = 0; i < sizeof rivals / sizeof *rivals; i++) {
        if (integer->element == rivals[i][0] && floating->element == rivals[i][1])
            return integer->rule == floating->rule && integer->group == floating->group && integer->symmetric;
    }
    return false;
}

size_t lb_format_pairs(const lb_format_list *list, lb_format_pair out[LB_PAIRS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        for (size_t k = 0; k < list->count && count < LB_PAIRS_MAX; k++) {
            if (are_rivals(&list->items[i], &list->items[k]))
                out[count++] = (lb_format_pair){&list->items[i], &list->items[k]};
        }
    }
    return count;
}

static const char *const theory_names[LB_THEORY_COUNT] = {[LB_THEORY_PAPER] = "paper",
                                                          [LB_THEORY_RANGE] = "range",
                                                          [LB_THEORY_PHASE] = "phase",
                                                          [LB_THEORY_GRID] = "grid"};

void lb_print_crossovers(const lb_format_list *list)
{
    lb_format_pair pairs[LB_PAIRS_MAX];
    const size_t count = lb_format_pairs(list, pairs);
    if (count == 0)
        return;
    printf("\nIntegers are better below this crest factor (dB there)\n");
    printf("%-40s", "");
    for (int t = 0; t < LB_THEORY_COUNT; t++)
        printf(" %13s", theory_names[t]);
    putchar('\n');
    for (size_t i = 0; i < count; i++) {
        printf("%-19s %-20s", pairs[i].integer->name, pairs[i].floating->name);
        for (int t = 0; t < LB_THEORY_COUNT; t++) {
            double crest, db;
            const bool known =
                !isnan(lb_theory_qsnr((lb_theory)t, pairs[i].integer, 2.0, pairs[i].integer->group));
            if (lb_theory_crossover((lb_theory)t, pairs[i].integer, pairs[i].floating, &crest, &db))
                printf(" %5.2f (%5.2f)", crest, db);
            else
                printf(" %13s", known ? "none" : "-");
        }
        putchar('\n');
    }
}

static json_t *crossover_json(const lb_format_pair *pair)
{
    json_t *json = json_pack("{s:s, s:s}", "integer", pair->integer->name, "floating", pair->floating->name);
    for (int t = 0; t < LB_THEORY_COUNT; t++) {
        double crest, db;
        const bool found = lb_theory_crossover((lb_theory)t, pair->integer, pair->floating, &crest, &db);
        json_object_set_new(json, theory_names[t],
                            found ? json_pack("{s:f, s:f}", "crest", crest, "qsnr_db", db) : json_null());
    }
    return json;
}

json_t *lb_crossovers_json(const lb_format_list *list)
{
    lb_format_pair pairs[LB_PAIRS_MAX];
    const size_t count = lb_format_pairs(list, pairs);
    json_t *array = json_array();
    int failed = array == NULL;
    for (size_t i = 0; i < count; i++)
        failed |= json_array_append_new(array, crossover_json(&pairs[i]));
    if (!failed)
        return array;
    json_decref(array);
    return NULL;
}
