/* SPDX-License-Identifier: MIT
 *
 * Encoding: symbols in a linked list; short words look for the best pair by scanning, long ones keep
 * the pairs in a heap, so that a word of n characters takes O(n log n). */
#include "io/tokenizer_bpe.h"

#include <string.h>

#include "base/alloc.h"
#include "io/utf8.h"

enum { SCAN_MAX = 24 }; /* symbols up to which scanning beats the heap */
#define NONE UINT32_MAX

struct lb_bpe_symbol {
    uint32_t id;
    uint32_t previous, next; /* NONE at the ends */
    uint32_t rank, merged; /* of the pair (this, next): LB_NO_RANK when it is not in the list */
};

struct lb_bpe_candidate {
    uint32_t rank, at;
};

uint32_t lb_bpe_id(const lb_bpe *bpe, const char *text, size_t length)
{
    return lb_string_map_find(&bpe->ids, bpe->texts, text, length);
}

lb_status lb_id_list_add(lb_id_list *list, uint32_t id, lb_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity < 64 ? 64 : list->capacity + list->capacity / 2;
        uint32_t *bigger = lb_grow(list->ids, list->count, capacity, sizeof *bigger);
        if (!bigger)
            return lb_fail(err, LB_ENOMEM, "no memory for %zu token ids", capacity);
        list->ids = bigger;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return LB_OK;
}

void lb_bpe_work_free(lb_bpe_work *work)
{
    lb_free(work->symbols);
    lb_free(work->heap);
    *work = (lb_bpe_work){0};
}

/* ---- characters ---- */

static void append(struct lb_bpe_symbol *symbols, uint32_t *count, uint32_t id)
{
    uint32_t at = (*count)++;
    symbols[at] =
        (struct lb_bpe_symbol){.id = id, .previous = at ? at - 1 : NONE, .next = at + 1, .rank = LB_NO_RANK};
}

static bool append_bytes(const lb_bpe *bpe, struct lb_bpe_symbol *symbols, uint32_t *count, const char *bytes,
                         size_t length)
{
    if (!bpe->byte_fallback)
        return false;
    for (size_t i = 0; i < length; i++)
        if (bpe->byte_ids[(uint8_t)bytes[i]] == LB_NO_ID)
            return false;
    for (size_t i = 0; i < length; i++)
        append(symbols, count, bpe->byte_ids[(uint8_t)bytes[i]]);
    return true;
}

/* The word's characters as symbols, at most one a byte. An unknown character is its bytes, or the
 * unknown token (one for a run where fuse_unk is on; it comes out when the next known character
 * does, as in Hugging Face's library), or nothing. */
static uint32_t spell(const lb_bpe *bpe, const char *word, size_t length, struct lb_bpe_symbol *symbols)
{
    uint32_t count = 0;
    bool unknown_waits = false;
    for (size_t i = 0, used; i < length; i += used) {
        uint32_t code = 0;
        (void)lb_utf8_next(word + i, length - i, &code, &used);
        uint32_t id = code < LB_DIRECT_CODES ? bpe->direct[code] : lb_bpe_id(bpe, word + i, used);
        if (id != LB_NO_ID) {
            if (unknown_waits)
                append(symbols, &count, bpe->unk);
            unknown_waits = false;
            append(symbols, &count, id);
        } else if (!append_bytes(bpe, symbols, &count, word + i, used) && bpe->unk != LB_NO_ID) {
            if (unknown_waits && !bpe->fuse_unk)
                append(symbols, &count, bpe->unk);
            unknown_waits = true;
        }
    }
    if (unknown_waits)
        append(symbols, &count, bpe->unk);
    if (count > 0)
        symbols[count - 1].next = NONE;
    return count;
}

/* ---- merging ---- */

static void look_up(const lb_bpe *bpe, struct lb_bpe_symbol *symbols, uint32_t at)
{
    struct lb_bpe_symbol *symbol = &symbols[at];
    symbol->rank = LB_NO_RANK;
    if (symbol->next == NONE)
        return;
    const lb_pair_entry *merge = lb_pair_map_find(&bpe->merges, symbol->id, symbols[symbol->next].id);
    if (merge) {
        symbol->rank = merge->rank;
        symbol->merged = merge->id;
    }
}

/* Merges the pair that begins at `at`; the ranks of the two pairs it touches are new afterwards. */
static void merge_at(const lb_bpe *bpe, struct lb_bpe_symbol *symbols, uint32_t at)
{
    struct lb_bpe_symbol *left = &symbols[at];
    struct lb_bpe_symbol *right = &symbols[left->next];
    left->id = left->merged;
    right->rank = LB_NO_RANK; /* whatever the heap still says of it is out of date */
    left->next = right->next;
    if (left->next != NONE)
        symbols[left->next].previous = at;
    look_up(bpe, symbols, at);
    if (left->previous != NONE)
        look_up(bpe, symbols, left->previous);
}

static void merge_by_scanning(const lb_bpe *bpe, struct lb_bpe_symbol *symbols)
{
    for (;;) {
        uint32_t best = NONE, best_rank = LB_NO_RANK;
        for (uint32_t at = 0; at != NONE; at = symbols[at].next)
            if (symbols[at].rank < best_rank) {
                best_rank = symbols[at].rank;
                best = at;
            }
        if (best == NONE)
            return;
        merge_at(bpe, symbols, best);
    }
}

static bool before(struct lb_bpe_candidate a, struct lb_bpe_candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void sift_down(struct lb_bpe_candidate *heap, size_t count, size_t at)
{
    struct lb_bpe_candidate moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static void heap_push(struct lb_bpe_candidate *heap, size_t *count, struct lb_bpe_candidate what)
{
    size_t at = (*count)++;
    for (; at > 0 && before(what, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = what;
}

/* Each merge takes one candidate away and adds at most two, and there are fewer than `count` merges:
 * 2 * count candidates are always enough. */
static void merge_by_heap(const lb_bpe *bpe, struct lb_bpe_symbol *symbols, uint32_t count,
                          struct lb_bpe_candidate *heap)
{
    size_t size = 0;
    for (uint32_t at = 0; at < count; at++)
        if (symbols[at].rank != LB_NO_RANK)
            heap[size++] = (struct lb_bpe_candidate){symbols[at].rank, at};
    for (size_t i = size / 2; i-- > 0;)
        sift_down(heap, size, i);
    while (size > 0) {
        struct lb_bpe_candidate top = heap[0];
        heap[0] = heap[--size];
        if (size > 0)
            sift_down(heap, size, 0);
        if (symbols[top.at].rank != top.rank)
            continue;
        merge_at(bpe, symbols, top.at);
        uint32_t touched[2] = {top.at, symbols[top.at].previous};
        for (int i = 0; i < 2; i++)
            if (touched[i] != NONE && symbols[touched[i]].rank != LB_NO_RANK)
                heap_push(heap, &size, (struct lb_bpe_candidate){symbols[touched[i]].rank, touched[i]});
    }
}

static lb_status reserve(lb_bpe_work *work, size_t length, lb_error *err)
{
    if (length > work->symbol_capacity) {
        size_t capacity = length < 64 ? 64 : length + length / 2;
        lb_free(work->symbols);
        work->symbols = NULL;
        work->symbol_capacity = 0;
        LB_TRY(
            lb_alloc_array(&work->symbols, capacity, sizeof *work->symbols, "tokenizing a long word", err));
        work->symbol_capacity = capacity;
    }
    if (length > SCAN_MAX && 2 * length > work->heap_capacity) {
        size_t capacity = 3 * length;
        lb_free(work->heap);
        work->heap = NULL;
        work->heap_capacity = 0;
        LB_TRY(lb_alloc_array(&work->heap, capacity, sizeof *work->heap, "tokenizing a long word", err));
        work->heap_capacity = capacity;
    }
    return LB_OK;
}

static lb_status encode_part(const lb_bpe *bpe, lb_bpe_work *work, const char *word, size_t length,
                             lb_id_list *out, lb_error *err)
{
    LB_TRY(reserve(work, length, err));
    struct lb_bpe_symbol *symbols = work->symbols;
    uint32_t count = spell(bpe, word, length, symbols);
    if (count == 0)
        return LB_OK;
    for (uint32_t at = 0; at < count; at++)
        look_up(bpe, symbols, at);
    if (count <= SCAN_MAX)
        merge_by_scanning(bpe, symbols);
    else
        merge_by_heap(bpe, symbols, count, work->heap);
    for (uint32_t at = 0; at != NONE; at = symbols[at].next)
        LB_TRY(lb_id_list_add(out, symbols[at].id, err));
    return LB_OK;
}

/* Where the part that begins at word[from] ends: before the next marker that follows another character. */
static size_t part_end(const char *word, size_t length, size_t from)
{
    for (size_t i = from + 1; i + 2 < length; i++)
        if (memcmp(word + i, "\xE2\x96\x81", 3) == 0 &&
            !(i >= from + 3 && memcmp(word + i - 3, "\xE2\x96\x81", 3) == 0))
            return i;
    return length;
}

lb_status lb_bpe_encode(const lb_bpe *bpe, lb_bpe_work *work, const char *word, size_t length,
                        lb_id_list *out, lb_error *err)
{
    if (length == 0)
        return LB_OK;
    if (bpe->ignore_merges) {
        uint32_t id = lb_bpe_id(bpe, word, length);
        if (id != LB_NO_ID && !(bpe->forbidden && bpe->forbidden[id]))
            return lb_id_list_add(out, id, err);
    }
    if (!bpe->cuts_at_marker)
        return encode_part(bpe, work, word, length, out, err);
    for (size_t from = 0; from < length;) {
        size_t end = part_end(word, length, from);
        LB_TRY(encode_part(bpe, work, word + from, end - from, out, err));
        from = end;
    }
    return LB_OK;
}
