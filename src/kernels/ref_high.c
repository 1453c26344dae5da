/* SPDX-License-Identifier: MIT
 * The portable kernel of SQ-format's high elements: what every faster one must agree with. Contract: kernels.def. */
#include "base/half.h"
#include "kernels/ref.h"

/* Of the row's elements in columns [place, place + width) of a bank: their products with x, exactly. */
static int32_t high_sum(const lb_high_panel *panel, size_t bank, const int8_t *x, size_t place, size_t width,
                        unsigned row)
{
    const uint8_t *quad = panel->lines + bank * panel->quads * LB_HIGH_QUAD_BYTES;
    int32_t sum = 0;
    for (size_t q = 0; q < panel->quads; q++, quad += LB_HIGH_QUAD_BYTES) {
        for (unsigned s = 0; s < LB_HIGH_SLOTS; s++) {
            const size_t at = quad[4 * row + s];
            if (at >= place && at < place + width)
                sum += (int8_t)quad[LB_HIGH_LINE + 4 * row + s] * x[at];
        }
    }
    return sum;
}

static void high_times(const lb_high_panel *panel, const lb_qvec_view *x, float *y)
{
    const size_t width = x->halves || panel->bank == LB_PANEL_HALF ? LB_PANEL_HALF : LB_PANEL_COLS;
    for (size_t bank = 0; bank < panel->banks; bank++) {
        const size_t first = bank * panel->bank;
        for (unsigned row = 0; row < LB_PANEL_ROWS; row++) {
            float sum = 0.0f;
            for (size_t place = 0; place < panel->bank; place += width)
                sum += (float)high_sum(panel, bank, x->codes + first, place, width, row) *
                       x->scales[(first + place) / LB_PANEL_HALF];
            y[row] += lb_f16_to_float(panel->scales[bank * LB_PANEL_ROWS + row]) * sum;
        }
    }
}

void lb_fill_high_ref(lb_kernels *table)
{
    table->high_times = high_times;
}
