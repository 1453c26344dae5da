/* SPDX-License-Identifier: MIT */
#include "analyze/hardware.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "formats/element.h"

enum { SCALE_BITS = 8, E4M3_EXPONENT = 4, E4M3_MANTISSA = 4, MOST_FILE_BYTES = 1 << 20 };
static const double LARGEST_FACTOR = 1e12;

const char *const lb_gate_names[LB_GATES] = {"and", "or", "xor", "mux", "full_adder"};

const char *const lb_hardware_part_names[LB_PARTS] = {"multiplier", "exponent_adder", "adder",    "subtract",
                                                      "compare",    "align",          "normalise"};

/* The gates of one cell of a part. */
static const unsigned char gates_of[LB_PARTS][LB_GATES] = {
    [LB_PART_MULTIPLIER] = {[LB_GATE_AND] = 1, [LB_GATE_FULL_ADDER] = 1},
    [LB_PART_EXPONENT_ADDER] = {[LB_GATE_FULL_ADDER] = 1},
    [LB_PART_ADDER] = {[LB_GATE_FULL_ADDER] = 1},
    [LB_PART_SUBTRACT] = {[LB_GATE_XOR] = 1, [LB_GATE_FULL_ADDER] = 1},
    [LB_PART_COMPARE] = {[LB_GATE_XOR] = 1, [LB_GATE_AND] = 1, [LB_GATE_OR] = 1},
    [LB_PART_ALIGN] = {[LB_GATE_MUX] = 1},
    [LB_PART_NORMALIZE] = {[LB_GATE_MUX] = 1, [LB_GATE_OR] = 1},
};

/* ---- Factors ----------------------------------------------------------------------------------------- */

/* Areas in um^2 and energies in fJ (the mean over arcs, rise and fall, at a slew of 20 ps and a load of
 * 2.88 fF) of NAND2xp5: 0.05832, 0.0448; INVx1: 0.04374, 0.0400; XOR2xp5: 0.13122, 0.1164; AO22x1: 0.13122,
 * 0.1431; FAx1: 0.20412, 0.1150 by output. An AND is NAND2xp5 and INVx1 (the kit's own has drive 2), and an
 * OR is taken to cost as much. A multiplexer is AO22x1; the inverter of its select line serves a whole
 * word. */
void lb_hardware_defaults(lb_hardware_factors *out)
{
    *out = (lb_hardware_factors){
        .area = {[LB_GATE_AND] = 1.75,
                 [LB_GATE_OR] = 1.75,
                 [LB_GATE_XOR] = 2.25,
                 [LB_GATE_MUX] = 2.25,
                 [LB_GATE_FULL_ADDER] = 3.5},
        .energy = {[LB_GATE_AND] = 1.89,
                   [LB_GATE_OR] = 1.89,
                   [LB_GATE_XOR] = 2.60,
                   [LB_GATE_MUX] = 3.19,
                   [LB_GATE_FULL_ADDER] = 2.57},
    };
}

static lb_status read_factor(const json_t *gate, const char *key, const char *where, double *out,
                             lb_error *err)
{
    LB_TRY(lb_json_double(gate, key, -1.0, where, out, err));
    if (!json_object_get(gate, key) || json_is_null(json_object_get(gate, key)))
        return lb_fail(err, LB_EFORMAT, "%s: there is no \"%s\"", where, key);
    if (!(*out >= 0.0 && *out <= LARGEST_FACTOR))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is %g, outside 0 to %g", where, key, *out,
                       LARGEST_FACTOR);
    return LB_OK;
}

static lb_status read_gate(json_t *gate, const char *path, const char *name, double *area, double *energy,
                           lb_error *err)
{
    const char *key;
    json_t *value;
    if (!gate)
        return lb_fail(err, LB_EFORMAT, "%s: there is no \"%s\"", path, name);
    if (!json_is_object(gate))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is not an object with \"area\" and \"energy\"", path,
                       name);
    json_object_foreach(
        (json_t *)(uintptr_t)gate, key,
        value) if (strcmp(key, "area") != 0 &&
                   strcmp(key, "energy") !=
                       0) return lb_fail(err, LB_EFORMAT,
                                         "%s: \"%s\" has a \"%.40s\": wanted are \"area\" and \"energy\"",
                                         path, name, key);
    lb_status st = read_factor(gate, "area", name, area, err);
    if (st == LB_OK)
        st = read_factor(gate, "energy", name, energy, err);
    return st == LB_OK ? LB_OK : lb_fail_at(err, st, "%s", path);
}

static bool is_known(const char *key)
{
    bool known = strcmp(key, "comment") == 0;
    for (unsigned g = 0; g < LB_GATES; g++)
        known |= strcmp(key, lb_gate_names[g]) == 0;
    return known;
}

lb_status lb_hardware_factors_read(const char *path, lb_hardware_factors *out, lb_error *err)
{
    json_t *file, *value;
    const char *key, *comment;
    lb_hardware_factors factors;
    double area = 0, energy = 0;
    LB_TRY(lb_json_load(path, MOST_FILE_BYTES, &file, err));
    lb_status st = LB_OK;
    json_object_foreach(file, key, value) if (!is_known(key)) LB_GO(lb_fail(
        err, LB_EFORMAT, "%s: \"%.40s\" is no gate: there are and, or, xor, mux, full_adder (and a comment)",
        path, key));
    LB_GO(lb_json_string(file, "comment", NULL, path, &comment, err));
    for (unsigned g = 0; g < LB_GATES; g++) {
        LB_GO(read_gate(json_object_get(file, lb_gate_names[g]), path, lb_gate_names[g], &factors.area[g],
                        &factors.energy[g], err));
        area += factors.area[g];
        energy += factors.energy[g];
    }
    if (area == 0 || energy == 0)
        LB_GO(lb_fail(err, LB_EFORMAT, "%s: every %s is 0, which leaves nothing to compare", path,
                      area == 0 ? "area" : "energy"));
    *out = factors;
done:
    json_decref(file);
    return st;
}

/* ---- Counts ------------------------------------------------------------------------------------------ */

/* A barrel shifter of n bits: as many stages of n multiplexers as n has bits. */
static double shifter(double bits)
{
    return bits * log2(bits);
}

static double price(const double counts[LB_PARTS], const double factors[LB_GATES])
{
    double sum = 0;
    for (unsigned p = 0; p < LB_PARTS; p++)
        for (unsigned g = 0; g < LB_GATES; g++)
            sum += counts[p] * gates_of[p][g] * factors[g];
    return sum;
}

static unsigned aligner_bits(unsigned x, unsigned y)
{
    const unsigned bits = (2u << x) + 2 * y;
    return bits < LB_HARDWARE_ACCUMULATOR_BITS ? bits : LB_HARDWARE_ACCUMULATOR_BITS;
}

static void count_lanes(lb_hardware_unit *unit)
{
    const unsigned x = unit->exponent_bits, y = unit->fraction_bits, n = unit->aligner_bits;
    const double k = (double)unit->lanes;
    double *c = unit->in_lanes;
    if (x == 0) {
        c[LB_PART_MULTIPLIER] = k * (y + 1) * (y + 1);
        c[LB_PART_ADDER] = 2 * k * (y + 1);
        return;
    }
    c[LB_PART_MULTIPLIER] = k * (y + 1) * (y + 1);
    c[LB_PART_EXPONENT_ADDER] = k * x;
    c[LB_PART_ADDER] = k * n;
    c[LB_PART_SUBTRACT] = k * x;
    c[LB_PART_COMPARE] = k * x;
    c[LB_PART_ALIGN] = k * shifter(n);
    c[LB_PART_NORMALIZE] = shifter(n);
}

/* FP32: 8 bits of exponent, 24 of significand. */
static void count_accumulator(double c[LB_PARTS])
{
    c[LB_PART_SUBTRACT] = 8;
    c[LB_PART_COMPARE] = 8;
    c[LB_PART_ADDER] = LB_HARDWARE_ACCUMULATOR_BITS;
    c[LB_PART_ALIGN] = c[LB_PART_NORMALIZE] = shifter(LB_HARDWARE_ACCUMULATOR_BITS);
}

/* p of the header. */
static double sum_bits(const lb_hardware_unit *unit)
{
    const double more = log2((double)unit->lanes);
    return unit->aligner_bits ? fmin(unit->aligner_bits + more, LB_HARDWARE_ACCUMULATOR_BITS)
                              : 2 * (unit->fraction_bits + 1) + more;
}

static void count_dequantizer(lb_hardware_unit *unit, bool two_level)
{
    double *c = unit->in_dequantizer;
    if (!unit->aligner_bits)
        c[LB_PART_NORMALIZE] = shifter(sum_bits(unit));
    if (two_level) {
        c[LB_PART_MULTIPLIER] = E4M3_MANTISSA * E4M3_MANTISSA + 2 * E4M3_MANTISSA * sum_bits(unit);
        c[LB_PART_EXPONENT_ADDER] = E4M3_EXPONENT + SCALE_BITS;
    } else {
        c[LB_PART_EXPONENT_ADDER] = 2 * SCALE_BITS;
    }
}

static void count(const lb_element *element, size_t lanes, bool two_level, lb_hardware_unit *out)
{
    *out = (lb_hardware_unit){.lanes = lanes,
                              .exponent_bits = element->bits - 1 - element->fraction_bits,
                              .fraction_bits = element->fraction_bits};
    if (out->exponent_bits > 0)
        out->aligner_bits = aligner_bits(out->exponent_bits, out->fraction_bits);
    count_lanes(out);
    count_accumulator(out->in_accumulator);
    count_dequantizer(out, two_level);
}

lb_status lb_hardware_cost(const lb_format *format, const lb_hardware_factors *factors, lb_hardware_unit *out,
                           lb_error *err)
{
    if (!format->element || format->rule == LB_SCALE_EXACT)
        return lb_fail(err, LB_EINVAL,
                       "format %s: the hardware model knows blocks with E8M0 or two-level scales only",
                       format->name);
    count(format->element, format->group, format->rule == LB_SCALE_TWO_LEVEL, out);
    const double k = (double)out->lanes;
    out->area = (price(out->in_lanes, factors->area) + price(out->in_accumulator, factors->area) +
                 price(out->in_dequantizer, factors->area)) /
                k;
    out->energy = (price(out->in_lanes, factors->energy) + price(out->in_accumulator, factors->energy) +
                   price(out->in_dequantizer, factors->energy)) /
                  k;
    return LB_OK;
}

double lb_hardware_cells_per_lane(const lb_hardware_unit *unit)
{
    double sum = 0;
    for (unsigned p = 0; p < LB_PARTS; p++)
        sum += unit->in_lanes[p];
    return sum / (double)unit->lanes;
}

/* ---- Units for two widths ---------------------------------------------------------------------------- */

enum { MIX_LANES = 32, NV_LANES = 16, NV_BLOCKS = 2 * MIX_LANES / NV_LANES };

/* What the lanes of a mixed unit cost: all there is, and what toggles at 8 and at 4 bits. */
typedef struct lane_costs {
    double all, at_8, at_4;
} lane_costs;

/* 32 lanes of each format. At 4 bits all 64 work as E2M1 lanes; only half of them are such, so that half of
 * the four blocks' normalisers has to be added to the lanes'. */
static lane_costs float_lanes(const lb_hardware_unit *wide, const lb_hardware_unit *narrow,
                              const double factors[LB_GATES])
{
    const double eight = price(wide->in_lanes, factors), four = NV_BLOCKS * price(narrow->in_lanes, factors);
    const double more[LB_PARTS] = {[LB_PART_NORMALIZE] = NV_BLOCKS / 2 * shifter(narrow->aligner_bits)};
    return (lane_costs){.all = eight + four / 2 + price(more, factors), .at_8 = eight, .at_4 = four};
}

/* Two lanes of 8 x 4 bits for each product of 8 bits, and an adder that joins their two sums. */
static lane_costs integer_lanes(const lb_hardware_unit *wide, const lb_hardware_unit *narrow,
                                const double factors[LB_GATES])
{
    const unsigned b = wide->fraction_bits + 1, half = narrow->fraction_bits + 1;
    const double lanes[LB_PARTS] = {
        [LB_PART_MULTIPLIER] = 2.0 * MIX_LANES * b * half, [LB_PART_ADDER] = 2.0 * MIX_LANES * (b + half)};
    const double join[LB_PARTS] = {[LB_PART_ADDER] = sum_bits(wide)};
    const double cost = price(lanes, factors), joined = cost + price(join, factors);
    return (lane_costs){.all = joined, .at_8 = joined, .at_4 = cost};
}

void lb_hardware_mixed_cost(lb_hardware_mix mix, const lb_hardware_factors *factors, double *area,
                            double *energy)
{
    const bool integer = mix == LB_MIX_INTEGER;
    lb_hardware_unit wide, narrow;
    count(integer ? &lb_int8 : &lb_e4m3, MIX_LANES, false, &wide);
    count(integer ? &lb_int4 : &lb_e2m1, NV_LANES, true, &narrow);
    const lane_costs a = (integer ? integer_lanes : float_lanes)(&wide, &narrow, factors->area);
    const lane_costs e = (integer ? integer_lanes : float_lanes)(&wide, &narrow, factors->energy);
    *area = (a.all + price(wide.in_dequantizer, factors->area) +
             NV_BLOCKS * (price(narrow.in_dequantizer, factors->area) +
                          price(narrow.in_accumulator, factors->area))) /
            MIX_LANES;
    const double at_8 =
        e.at_8 + price(wide.in_dequantizer, factors->energy) + price(wide.in_accumulator, factors->energy);
    const double at_4 = e.at_4 + NV_BLOCKS * (price(narrow.in_dequantizer, factors->energy) +
                                              price(narrow.in_accumulator, factors->energy));
    *energy = (at_8 + at_4) / 2 / MIX_LANES;
}
