/* SPDX-License-Identifier: MIT */
#include "quantize/magnitude.h"

lb_status lb_check_magnitude(const lb_format *format, const char *name, float largest, lb_error *err)
{
    if (format->element || lb_format_is_float(format) || largest == 0.0f ||
        (largest >= 1e-6f && largest <= 65504.0f))
        return LB_OK;
    return lb_fail(
        err, LB_EINVAL,
        "%s: its largest weight is %g, outside the 1e-6 to 65504 that 16-bit scales can follow; keep it "
        "with --layer '%s=bf16'",
        name, (double)largest, name);
}
