/* SPDX-License-Identifier: MIT
 * Any bytes as the body of a request, as a completion's and as a chat's: what is accepted must be what the engine can
 * rely on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/api_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const lb_api_request *r)
{
    const lb_generate_options o = lb_api_request_options(r);
    size_t bytes = 0;
    if (!(o.temperature >= 0) || !(o.top_p > 0 && o.top_p <= 1) || !(o.min_p >= 0 && o.min_p <= 1) ||
        !(o.repeat_penalty > 0) || o.stop_count > LB_GENERATE_MOST_STOPS ||
        o.top_scores > LB_GENERATE_MOST_TOP)
        abort();
    for (size_t i = 0; i < o.stop_count; i++)
        if (strlen(o.stops[i]) == 0 || strlen(o.stops[i]) > LB_GENERATE_MOST_STOP_BYTES)
            abort();
    for (size_t i = 0; i < r->turn_count; i++)
        bytes += strlen(r->turns[i].role) + strlen(r->turns[i].content);
    for (size_t i = 0; i < r->id_count; i++)
        bytes += r->ids[i];
    if (r->prompt && strlen(r->prompt) != r->prompt_length)
        abort();
    if (r->kind == LB_API_CHAT ? r->turn_count == 0 || bytes == 0 : !r->prompt && !r->ids)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int kind = LB_API_COMPLETION; kind <= LB_API_CHAT; kind++) {
        lb_api_request r;
        lb_error err;
        if (lb_api_request_parse((lb_api_kind)kind, (const char *)data, size, 1, &r, &err) != LB_OK)
            continue;
        check(&r);
        lb_api_request_free(&r);
    }
    return 0;
}
