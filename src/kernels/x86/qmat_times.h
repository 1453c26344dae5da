/* SPDX-License-Identifier: MIT
 * qmat_times and qmat_times_rows for every layout of codes, out of qmat_body.h, for the instruction set whose
 * operations the including file has defined. */

/* How far ahead codes are asked for: a few hundred nanoseconds of work. */
enum { PREFETCH_BYTES = 2048 };

/* Tokens that share what is unpacked of a block of codes. */
enum { ROW_TILE = 4 };

/* Vectors that do. */
enum { FEW_TILE = 4 };

#define BITS 2
#include "kernels/x86/qmat_body.h"
#define BITS 3
#include "kernels/x86/qmat_body.h"
#define BITS 4
#include "kernels/x86/qmat_body.h"
#define BITS 4
#define E2M1
#include "kernels/x86/qmat_body.h"
#define BITS 5
#include "kernels/x86/qmat_body.h"
#define BITS 6
#include "kernels/x86/qmat_body.h"
#define BITS 7
#include "kernels/x86/qmat_body.h"
#define BITS 8
#include "kernels/x86/qmat_body.h"

static void qmat_times(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    switch (panel->bits) {
    case 2:
        times_2(panel, x, y);
        break;
    case 3:
        times_3(panel, x, y);
        break;
    case 4:
        (panel->e2m1 ? times_e2m1 : times_4)(panel, x, y);
        break;
    case 5:
        times_5(panel, x, y);
        break;
    case 6:
        times_6(panel, x, y);
        break;
    case 7:
        times_7(panel, x, y);
        break;
    default:
        times_8(panel, x, y);
        break;
    }
}

static void qmat_times_rows(const lb_qmat_panel *panel, const lb_qrows_view *x, size_t count, float *y)
{
    switch (panel->bits) {
    case 2:
        rows_2(panel, x, count, y);
        break;
    case 3:
        rows_3(panel, x, count, y);
        break;
    case 4:
        rows_4(panel, x, count, y);
        break;
    case 5:
        rows_5(panel, x, count, y);
        break;
    case 6:
        rows_6(panel, x, count, y);
        break;
    case 7:
        rows_7(panel, x, count, y);
        break;
    default:
        rows_8(panel, x, count, y);
        break;
    }
}

static void few(const lb_qmat_panel *panel, const lb_qvec_view *x, size_t vectors, float *y, size_t stride)
{
    switch (panel->bits) {
    case 2:
        few_2(panel, x, vectors, y, stride);
        break;
    case 3:
        few_3(panel, x, vectors, y, stride);
        break;
    case 4:
        (panel->e2m1 ? few_e2m1 : few_4)(panel, x, vectors, y, stride);
        break;
    case 5:
        few_5(panel, x, vectors, y, stride);
        break;
    case 6:
        few_6(panel, x, vectors, y, stride);
        break;
    case 7:
        few_7(panel, x, vectors, y, stride);
        break;
    default:
        few_8(panel, x, vectors, y, stride);
        break;
    }
}

static void qmat_times_few(const lb_qmat_panel *panel, const lb_qvec_view *x, size_t count, float *y,
                           size_t stride)
{
    const bool halves = panel->halves || x->halves;
    while (count > 0) {
        const size_t n = halves || count == 1 ? 1 : count >= FEW_TILE ? FEW_TILE : 2;
        if (n == 1)
            qmat_times(panel, x, y);
        else
            few(panel, x, n, y, stride);
        count -= n;
        x += n;
        y += n * stride;
    }
}
