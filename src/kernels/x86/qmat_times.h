/* SPDX-License-Identifier: MIT
 * qmat_times and qmat_times_rows for every layout of codes, out of qmat_body.h, for the instruction set whose
 * operations the including file has defined. */

/* How far ahead codes are asked for: a few hundred nanoseconds of work. */
enum { PREFETCH_BYTES = 2048 };

/* Tokens that share what is unpacked of a block of codes. */
enum { ROW_TILE = 4 };

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
