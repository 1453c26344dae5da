/* SPDX-License-Identifier: MIT
 *
 * What it costs in gates to multiply and accumulate numbers of a block format: the analytical model of INT
 * v.s. FP (arXiv:2510.25602, section 3 "Hardware model"). A unit multiplies one block's k pairs of elements
 * each cycle, adds up the products, and adds their sum times the block's scales to a float. Combinational
 * gates alone: no registers, no wires, no rounding of inputs.
 *
 * Counts for k lanes, with x exponent bits and y fraction bits (integers of b bits: x = 0, y = b - 1) and an
 * aligner of n = min(2^(x+1) + 2 y, 24) bits:
 *
 *                       integers         floats
 *   multiplier          k (x + y + 1)^2  k (y + 1)^2     1 AND, 1 full adder
 *   exponent adder                       k x             1 full adder
 *   adder               2 k (x + y + 1)  k n             1 full adder
 *   exponent subtract                    k x             1 XOR, 1 full adder
 *   compare                              k x             1 XOR, 1 AND, 1 OR
 *   align                                k n log2 n      1 2:1 multiplexer
 *   normalise                            n log2 n        1 2:1 multiplexer, 1 OR
 *
 * The counts are the paper's; the gates of each, on the right, are our reading of it. The logarithm is not
 * rounded (the paper's counts of cells come out that way).
 *
 * The paper's own areas and energies of gates are not published, nor are its accumulator and dequantiser,
 * which the k lanes share. Ours, all of them assumptions:
 *
 *   gates        lb_hardware_defaults: the ASAP7 kit
 *   toggling     every gate makes one output transition at the same rate, a full adder too, though it has two
 *                outputs: with both counted (its energy doubled) integers save about as much energy as area
 *   accumulator  an FP32 adder of the same parts: 8 bits subtracted and compared; 24 aligned, added,
 *                normalised
 *   MX scales    two 8-bit exponents added to each other and to the sum's
 *   NV scales    E4M3 times E4M3 (a 4 x 4 multiplier, 4 bits of exponent added), and a multiplier of that
 *                product's 8 bits and the sum's p bits, 8 bits of exponent added; the tensors' floats come
 *                later
 *   sums         p = 2 b + log2 k bits of an integer sum, which is normalised once to become a float; of a
 *                float's, p = n + log2 k, at most 24
 */
#ifndef LB_ANALYZE_HARDWARE_H
#define LB_ANALYZE_HARDWARE_H

#include "base/error.h"
#include "formats/format.h"

enum { LB_HARDWARE_ACCUMULATOR_BITS = 24 };

typedef enum lb_gate {
    LB_GATE_AND,
    LB_GATE_OR,
    LB_GATE_XOR,
    LB_GATE_MUX,
    LB_GATE_FULL_ADDER,
    LB_GATES
} lb_gate;

extern const char *const lb_gate_names[LB_GATES]; /* "and", "or", "xor", "mux", "full_adder" */

/* In any unit: what is printed are ratios. */
typedef struct lb_hardware_factors {
    double area[LB_GATES];
    double energy[LB_GATES]; /* of one output transition */
} lb_hardware_factors;

/* The ASAP7 predictive 7 nm kit (Clark et al., Microelectronics Journal 53, 2016), regular threshold, slow
 * corner, of cells of drive 1 or less, in units of NAND2xp5. */
void lb_hardware_defaults(lb_hardware_factors *out);

/* From a JSON file: {"and": {"area": 1.75, "energy": 1.89}, ...} for every gate, with numbers from 0 to 1e12;
 * a "comment" (text) is allowed. LB_EFORMAT for anything else. */
lb_status lb_hardware_factors_read(const char *path, lb_hardware_factors *out, lb_error *err);

typedef enum lb_hardware_part {
    LB_PART_MULTIPLIER,
    LB_PART_EXPONENT_ADDER,
    LB_PART_ADDER,
    LB_PART_SUBTRACT,
    LB_PART_COMPARE,
    LB_PART_ALIGN,
    LB_PART_NORMALIZE,
    LB_PARTS
} lb_hardware_part;

extern const char *const lb_hardware_part_names[LB_PARTS];

/* A unit for one block: counts of all of its lanes, of its accumulator and of its dequantiser. */
typedef struct lb_hardware_unit {
    size_t lanes; /* k */
    unsigned exponent_bits, fraction_bits; /* x, y */
    unsigned aligner_bits; /* n; 0 for integers */
    double in_lanes[LB_PARTS], in_accumulator[LB_PARTS], in_dequantizer[LB_PARTS];
    double area, energy; /* of all of it, divided by the lanes */
} lb_hardware_unit;

/* A block format with E8M0 scales or two-level scales; LB_EINVAL for any other. */
lb_status lb_hardware_cost(const lb_format *format, const lb_hardware_factors *factors, lb_hardware_unit *out,
                           lb_error *err);

/* The counts of the paper's table, by lane: without accumulator and dequantiser. */
double lb_hardware_cells_per_lane(const lb_hardware_unit *unit);

typedef enum lb_hardware_mix { LB_MIX_FLOAT, LB_MIX_INTEGER } lb_hardware_mix;

/* Area and energy, by 8-bit lane, of a unit that multiplies a block of 32 numbers of 8 bits (MX) or four
 * blocks of 16 numbers of 4 bits (NV) in a cycle: twice the throughput at 4 bits.
 *
 *   LB_MIX_FLOAT    MXFP8 (E4M3) + NVFP4: 32 E4M3 lanes, and as many E2M1 lanes that rest at 8 bits. At 4
 *                   bits an E4M3 lane takes an E2M1 number as S_00XX_X00; what is constant does not toggle,
 *                   so its energy is then that of an E2M1 lane.
 *   LB_MIX_INTEGER  MXINT8 + NVINT4: 64 lanes of 8 x 4 bits. At 8 bits two of them make a product, their sums
 *                   joined by one adder; at 4 bits the sign is extended, so all of a lane toggles.
 *
 * Both have four accumulators (one is used at 8 bits), one MX dequantiser and four of NV. Energy is the mean
 * of one cycle at 8 bits and one at 4. */
void lb_hardware_mixed_cost(lb_hardware_mix mix, const lb_hardware_factors *factors, double *area,
                            double *energy);

#endif
