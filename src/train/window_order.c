/* SPDX-License-Identifier: MIT */
#include "train/window_order.h"

#include "base/alloc.h"
#include "base/rng.h"

/* However large the offset (< length) is, a file has this many windows and the token after the last. */
static uint64_t windows_of(const lb_token_view *view, size_t length)
{
    return view->count < 2 * length ? 0 : (view->count - length) / length;
}

lb_status lb_window_order_create(const lb_corpus *corpus, size_t length, uint64_t seed, lb_window_order *out,
                                 lb_error *err)
{
    lb_window_order o = {.corpus = corpus, .length = length, .seed = seed};
    for (size_t i = 0; i < corpus->train_count; i++)
        o.per_epoch += windows_of(&corpus->train[i].view, length);
    if (o.per_epoch == 0 || o.per_epoch > UINT32_MAX)
        return lb_fail(err, LB_EINVAL,
                       "the training text of %llu tokens gives %llu windows of %zu tokens, want 1 to 2^32",
                       (unsigned long long)corpus->tokens, (unsigned long long)o.per_epoch, length);
    LB_TRY(lb_alloc_array(&o.order, (size_t)o.per_epoch, sizeof *o.order, "order of the windows", err));
    *out = o;
    return LB_OK;
}

void lb_window_order_free(lb_window_order *order)
{
    lb_free(order->order);
    *order = (lb_window_order){0};
}

/* Fisher & Yates. */
static void draw(lb_window_order *o, uint64_t epoch)
{
    lb_rng rng;
    lb_rng_seed(&rng, o->seed ^ (epoch + 1) * 0xD1B54A32D192ED03u);
    o->offset = (size_t)lb_rng_below(&rng, o->length);
    for (size_t i = 0; i < o->per_epoch; i++)
        o->order[i] = (uint32_t)i;
    for (size_t i = (size_t)o->per_epoch; i > 1; i--) {
        const size_t k = (size_t)lb_rng_below(&rng, i);
        const uint32_t swapped = o->order[k];
        o->order[k] = o->order[i - 1];
        o->order[i - 1] = swapped;
    }
    o->epoch = epoch;
    o->is_drawn = true;
}

void lb_window_order_read(lb_window_order *o, uint64_t index, uint32_t *ids, uint32_t *targets)
{
    const uint64_t epoch = index / o->per_epoch;
    if (!o->is_drawn || epoch != o->epoch)
        draw(o, epoch);
    uint64_t window = o->order[index % o->per_epoch];
    const lb_token_file *file = o->corpus->train;
    for (; window >= windows_of(&file->view, o->length); file++)
        window -= windows_of(&file->view, o->length);
    const size_t at = o->offset + (size_t)window * o->length;
    lb_token_view_read(&file->view, at, o->length, ids);
    lb_token_view_read(&file->view, at + 1, o->length, targets);
}
