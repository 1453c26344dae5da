/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "train/word_counts.h"

#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer_parts.h"

enum { FIRST_SLOTS = 1 << 12, MAX_WORDS = 1 << 30 };

json_t *lb_byte_level_spec(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                     "use_regex", 1);
}

lb_status lb_word_counts_create(lb_word_counts *out, lb_error *err)
{
    lb_word_counts counts = {.slot_count = FIRST_SLOTS};
    json_t *spec = lb_byte_level_spec();
    counts.slots = lb_alloc_zero(counts.slot_count, sizeof *counts.slots);
    lb_status st = spec && counts.slots ? LB_OK : lb_fail(err, LB_ENOMEM, "counts of words: no memory");
    if (st == LB_OK)
        st = lb_pretokenizer_create(spec, "byte-level BPE", &counts.pretokenizer, err);
    json_decref(spec);
    if (st == LB_OK)
        *out = counts;
    else
        lb_word_counts_free(&counts);
    return st;
}

void lb_word_counts_free(lb_word_counts *c)
{
    lb_pretokenizer_destroy(c->pretokenizer);
    lb_text_free(&c->text);
    lb_text_free(&c->clean);
    lb_words_free(&c->found);
    lb_free(c->words);
    lb_free(c->slots);
    *c = (lb_word_counts){0};
}

/* FNV-1a, stirred; the same in every run, which shows in no result. */
static uint64_t hash_of(const char *word, size_t length)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)word[i]) * 0x100000001B3u;
    return lb_mix64(h);
}

/* The slot that holds the word, or the empty one where it belongs. */
static size_t slot_of(const lb_word_counts *c, const char *word, size_t length)
{
    size_t slot = (size_t)hash_of(word, length) & (c->slot_count - 1);
    for (; c->slots[slot]; slot = (slot + 1) & (c->slot_count - 1)) {
        const lb_counted_word *w = &c->words[c->slots[slot] - 1];
        if (w->length == length && memcmp(c->text.data + w->at, word, length) == 0)
            break;
    }
    return slot;
}

static lb_status grow_slots(lb_word_counts *c, lb_error *err)
{
    uint32_t *bigger = lb_alloc_zero(c->slot_count * 2, sizeof *bigger);
    if (!bigger)
        return lb_fail(err, LB_ENOMEM, "counts of words: no memory for %zu words", c->count);
    lb_free(c->slots);
    c->slots = bigger;
    c->slot_count *= 2;
    for (size_t i = 0; i < c->count; i++)
        c->slots[slot_of(c, c->text.data + c->words[i].at, c->words[i].length)] = (uint32_t)i + 1;
    return LB_OK;
}

static lb_status count_word(lb_word_counts *c, const char *word, size_t length, lb_error *err)
{
    size_t slot = slot_of(c, word, length);
    if (c->slots[slot]) {
        c->words[c->slots[slot] - 1].count++;
        return LB_OK;
    }
    if (c->count == MAX_WORDS)
        return lb_fail(err, LB_EUNSUPPORTED, "counts of words: more than %d different words", MAX_WORDS);
    if (c->count == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 1024;
        lb_counted_word *words = lb_grow(c->words, c->capacity, capacity, sizeof *words);
        if (!words)
            return lb_fail(err, LB_ENOMEM, "counts of words: no memory for %zu words", capacity);
        c->words = words;
        c->capacity = capacity;
    }
    c->words[c->count] = (lb_counted_word){.at = c->text.length, .length = (uint32_t)length, .count = 1};
    lb_text_add(&c->text, word, length);
    if (c->text.failed)
        return lb_fail(err, LB_ENOMEM, "counts of words: no memory for the words");
    c->slots[slot] = (uint32_t)++c->count;
    return 3 * c->count > 2 * c->slot_count ? grow_slots(c, err) : LB_OK;
}

lb_status lb_word_counts_add(lb_word_counts *c, const char *text, size_t length, const char *separator,
                             lb_error *err)
{
    lb_searcher *searcher;
    const size_t separator_length = strlen(separator);
    c->clean.length = 0;
    LB_TRY(lb_utf8_clean(&c->clean, &text, &length, err));
    LB_TRY(lb_searcher_create(length, &searcher, err));
    lb_status st = LB_OK;
    for (size_t at = 0; at < length;) {
        const char *found = memmem(text + at, length - at, separator, separator_length);
        const size_t end = found ? (size_t)(found - text) : length;
        LB_GO(lb_pretokenizer_run(c->pretokenizer, searcher, text + at, end - at, true, &c->found, err));
        for (size_t i = 0; i < c->found.count; i++)
            LB_GO(count_word(c, c->found.text.data + c->found.words[i].begin, c->found.words[i].length, err));
        at = found ? end + separator_length : length;
    }
done:
    lb_searcher_destroy(searcher);
    return st;
}
