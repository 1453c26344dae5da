/* SPDX-License-Identifier: MIT */
#include "kernels/bandwidth.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"

enum { CHUNK_BYTES = 1 << 20 };

typedef struct reading {
    const lb_kernels *kernels;
    uint8_t *data;
    size_t bytes;
    uint64_t *sums; /* [chunks]: kept, so that no compiler drops the reads */
} reading;

static size_t chunk_bytes(const reading *r, size_t chunk)
{
    size_t left = r->bytes - chunk * CHUNK_BYTES;
    return left < CHUNK_BYTES ? left : CHUNK_BYTES;
}

/* The pages are first touched by the threads, in the pattern in which they will be read. */
static void touch_chunks(void *arg, size_t begin, size_t end)
{
    const reading *r = arg;
    for (size_t chunk = begin; chunk < end; chunk++)
        memset(r->data + chunk * CHUNK_BYTES, 1, chunk_bytes(r, chunk));
}

static void read_chunks(void *arg, size_t begin, size_t end)
{
    const reading *r = arg;
    for (size_t chunk = begin; chunk < end; chunk++)
        r->sums[chunk] = r->kernels->read_sum(r->data + chunk * CHUNK_BYTES, chunk_bytes(r, chunk));
}

lb_status lb_read_bandwidth(const lb_kernels *kernels, size_t bytes, unsigned repeats, double *gb_per_second,
                            lb_error *err)
{
    lb_status st = LB_OK;
    size_t chunks = bytes / CHUNK_BYTES + (bytes % CHUNK_BYTES != 0);
    reading r = {.kernels = kernels, .bytes = bytes};
    double best = 0.0;
    if (bytes == 0 || repeats == 0) {
        st = lb_fail(err, LB_EINVAL, "read bandwidth: %u reads of %zu bytes measure nothing", repeats, bytes);
        goto done;
    }
    LB_GO(lb_alloc_array(&r.data, bytes, 1, "read bandwidth's buffer", err));
    LB_GO(lb_alloc_array(&r.sums, chunks, sizeof *r.sums, "read bandwidth's sums", err));
    lb_advise_huge(r.data, bytes);
    lb_parallel_for(chunks, 1, touch_chunks, &r);
    for (unsigned i = 0; i < repeats; i++) {
        double begin = lb_now();
        lb_parallel_for(chunks, 1, read_chunks, &r);
        double seconds = lb_now() - begin;
        if (seconds > 0.0 && (double)bytes / seconds > best)
            best = (double)bytes / seconds;
    }
    *gb_per_second = best / 1e9;
done:
    lb_free(r.sums);
    lb_free(r.data);
    return st;
}
