/* SPDX-License-Identifier: MIT */
#include "cli/formats_hardware.h"

#include <stdio.h>

#include "analyze/hardware.h"

/* The ten formats of arXiv:2510.25602, and what it says of some: shown beside, never computed with. */
static const struct {
    const char *name;
    double paper_area, paper_energy; /* 0: not in the paper */
} rows[] = {
    {"mxfp8-e4m3", 1.0, 1.0}, {"mxfp8-e5m2", 0, 0},   {"mxint8", 0.79, 0.63}, {"mxfp6-e2m3", 0, 0},
    {"mxfp6-e3m2", 0, 0},     {"mxint6", 0, 0},       {"mxfp4", 0, 0},        {"mxint4", 0, 0},
    {"nvfp4", 0.54, 0.55},    {"nvint4", 0.38, 0.34},
};
static const struct {
    const char *name;
    lb_hardware_mix mix;
    double paper_area, paper_energy;
} mixes[] = {
    {"mxfp8-e4m3 + nvfp4", LB_MIX_FLOAT, 1.0, 1.0},
    {"mxint8 + nvint4", LB_MIX_INTEGER, 0.66, 0.75},
};
enum { ROWS = sizeof rows / sizeof *rows, MIXES = sizeof mixes / sizeof *mixes };

typedef struct results {
    lb_hardware_factors factors;
    lb_hardware_unit units[ROWS];
    double mix_area[MIXES], mix_energy[MIXES];
} results;

static lb_status compute(const char *cells_path, results *out, lb_error *err)
{
    lb_hardware_defaults(&out->factors);
    if (cells_path)
        LB_TRY(lb_hardware_factors_read(cells_path, &out->factors, err));
    for (size_t i = 0; i < ROWS; i++) {
        lb_format format;
        LB_TRY(lb_format_parse(rows[i].name, &format, err));
        LB_TRY(lb_hardware_cost(&format, &out->factors, &out->units[i], err));
    }
    for (size_t i = 0; i < MIXES; i++)
        lb_hardware_mixed_cost(mixes[i].mix, &out->factors, &out->mix_area[i], &out->mix_energy[i]);
    return LB_OK;
}

static void print_counts(const results *r)
{
    puts("Cells of a lane: the paper's counts, divided by the k lanes of a block");
    printf("%-12s %3s %2s %2s %3s", "format", "k", "x", "y", "n");
    for (unsigned p = 0; p < LB_PARTS; p++)
        printf(" %*s", p == LB_PART_EXPONENT_ADDER ? 14 : 10, lb_hardware_part_names[p]);
    printf(" %7s\n", "sum");
    for (size_t i = 0; i < ROWS; i++) {
        const lb_hardware_unit *u = &r->units[i];
        printf("%-12s %3zu %2u %2u ", rows[i].name, u->lanes, u->exponent_bits, u->fraction_bits);
        if (u->aligner_bits)
            printf("%3u", u->aligner_bits);
        else
            printf("%3s", "-");
        for (unsigned p = 0; p < LB_PARTS; p++)
            printf(" %*.1f", p == LB_PART_EXPONENT_ADDER ? 14 : 10, u->in_lanes[p] / (double)u->lanes);
        printf(" %7.1f\n", lb_hardware_cells_per_lane(u));
    }
}

static void print_cost(const char *name, double area, double energy, double area_ratio, double energy_ratio,
                       double paper_area, double paper_energy)
{
    printf("%-20s %9.1f %9.1f %12.2f %13.2f", name, area, energy, area_ratio, energy_ratio);
    if (paper_area > 0)
        printf("   %13.2f %13.2f", paper_area, paper_energy);
    putchar('\n');
}

static void print_costs(const results *r)
{
    puts("\nCost of one multiplication and addition a cycle, accumulator and dequantiser included");
    printf("%-20s %9s %9s %12s %13s   %13s %13s\n", "format", "area", "energy", "area ratio", "energy ratio",
           "paper: area", "paper: energy");
    for (size_t i = 0; i < ROWS; i++)
        print_cost(rows[i].name, r->units[i].area, r->units[i].energy, r->units[i].area / r->units[0].area,
                   r->units[i].energy / r->units[0].energy, rows[i].paper_area, rows[i].paper_energy);
    for (size_t i = 0; i < MIXES; i++)
        print_cost(mixes[i].name, r->mix_area[i], r->mix_energy[i], r->mix_area[i] / r->mix_area[0],
                   r->mix_energy[i] / r->mix_energy[0], mixes[i].paper_area, mixes[i].paper_energy);
    puts("Ratios are to mxfp8-e4m3; of the units for both widths, to that of floats.");
}

static void print_assumptions(const results *r, const char *cells_path)
{
    printf("\nAssumed (the paper does not publish its own):\n  gates, area/energy:");
    for (unsigned g = 0; g < LB_GATES; g++)
        printf(" %s %g/%g%s", lb_gate_names[g], r->factors.area[g], r->factors.energy[g],
               g + 1 < LB_GATES ? "," : "\n");
    if (cells_path)
        printf("    from %s\n", cells_path);
    else
        puts("    in units of NAND2xp5 of the ASAP7 predictive 7 nm kit; its energies are of one output\n"
             "    transition, at the same rate for all gates; a full adder's second output is not counted");
    puts("  cells: multiplier AND + full adder; adders a full adder; subtract XOR + full adder; compare XOR "
         "+\n"
         "    AND + OR; align a multiplexer; normalise a multiplexer + OR\n"
         "  accumulator, one for k lanes: an FP32 adder of the same cells (8-bit exponents, 24-bit sums)\n"
         "  dequantiser, one for k lanes: E8M0 two 8-bit additions; two-level a 4 x 4 multiplier of E4M3\n"
         "    mantissas and one of 8 bits x the sum's; integer sums are normalised once to become floats\n"
         "  both widths: 4-bit numbers at twice the throughput of 8-bit ones; energy is the mean of both "
         "modes\n"
         "  left out: registers, wires, the rounding of inputs, floats that a whole tensor shares");
}

lb_status lb_print_hardware(const char *cells_path, lb_error *err)
{
    results r;
    LB_TRY(compute(cells_path, &r, err));
    print_counts(&r);
    print_costs(&r);
    print_assumptions(&r, cells_path);
    return LB_OK;
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static json_t *counts_json(const double counts[LB_PARTS])
{
    json_t *object = json_object();
    for (unsigned p = 0; p < LB_PARTS; p++)
        json_object_set_new(object, lb_hardware_part_names[p], json_real(counts[p]));
    return object;
}

static json_t *paper_json(double area, double energy)
{
    return area > 0 ? json_pack("{s:f, s:f}", "area", area, "energy", energy) : json_null();
}

static json_t *unit_json(size_t i, const results *r)
{
    const lb_hardware_unit *u = &r->units[i];
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:o}", "format", rows[i].name,
        "lanes", (json_int_t)u->lanes, "exponent_bits", (json_int_t)u->exponent_bits, "fraction_bits",
        (json_int_t)u->fraction_bits, "aligner_bits", (json_int_t)u->aligner_bits, "cells_per_lane",
        lb_hardware_cells_per_lane(u), "cells", counts_json(u->in_lanes), "accumulator",
        counts_json(u->in_accumulator), "dequantizer", counts_json(u->in_dequantizer), "area", u->area,
        "energy", u->energy, "area_ratio", u->area / r->units[0].area, "energy_ratio",
        u->energy / r->units[0].energy, "paper", paper_json(rows[i].paper_area, rows[i].paper_energy));
}

json_t *lb_hardware_json(const char *cells_path, lb_error *err)
{
    results r;
    if (compute(cells_path, &r, err) != LB_OK)
        return NULL;
    json_t *formats = json_array(), *mixed = json_array(), *gates = json_object();
    for (size_t i = 0; i < ROWS; i++)
        json_array_append_new(formats, unit_json(i, &r));
    for (size_t i = 0; i < MIXES; i++)
        json_array_append_new(mixed, json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "formats", mixes[i].name,
                                               "area", r.mix_area[i], "energy", r.mix_energy[i], "area_ratio",
                                               r.mix_area[i] / r.mix_area[0], "energy_ratio",
                                               r.mix_energy[i] / r.mix_energy[0], "paper",
                                               paper_json(mixes[i].paper_area, mixes[i].paper_energy)));
    for (unsigned g = 0; g < LB_GATES; g++)
        json_object_set_new(
            gates, lb_gate_names[g],
            json_pack("{s:f, s:f}", "area", r.factors.area[g], "energy", r.factors.energy[g]));
    json_t *object = json_pack("{s:o, s:o, s:o}", "gates", gates, "formats", formats, "mixed", mixed);
    if (!object)
        lb_fail(err, LB_ENOMEM, "hardware model: no memory for its JSON");
    return object;
}
