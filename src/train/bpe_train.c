/* SPDX-License-Identifier: MIT
 *
 * Pairs know the words that they may occur in, so that a merge touches those only. The heap is lazy: an entry's count
 * may be too high, never too low, and is looked at again when it comes to the top.
 */
#include "train/bpe_train.h"

#include <string.h>

#include "base/alloc.h"
#include "io/token_map.h"
#include "io/tokenizer_pieces.h"
#include "io/utf8.h"

enum { BYTES = 256, LEAST_COUNT = 2 };

typedef struct pair {
    uint32_t left, right;
    uint64_t count;
    uint32_t *words; /* indices; a word may have lost the pair since */
    size_t word_count, word_capacity;
    size_t touched; /* the merge that it was last counted up in */
    bool merged;
} pair;

typedef struct candidate {
    uint64_t count;
    uint32_t pair;
} candidate;

typedef struct trainer {
    const lb_word_counts *words;
    uint32_t *symbols; /* of all words, one after another */
    size_t *first; /* [words + 1]: where a word's symbols begin */
    uint32_t *lengths; /* [words]: how many symbols it has left */
    pair *pairs;
    size_t pair_count, pair_capacity;
    lb_pair_map index; /* (left, right) -> index of the pair */
    candidate *heap;
    size_t heap_count, heap_capacity;
    uint32_t *touched; /* pairs that the current merge counted up: they go into the heap when it is done */
    size_t touched_count, touched_capacity;
    lb_text spelling; /* of all symbols */
    lb_token_text *texts; /* [most symbols] */
    size_t *text_at; /* [most symbols]: where they are in `spelling`, which moves */
    lb_string_map ids; /* of spellings */
    lb_merges made;
    size_t merge_capacity;
} trainer;

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "tokenizer training: no memory");
}

static void trainer_free(trainer *t)
{
    for (size_t i = 0; i < t->pair_count; i++)
        lb_free(t->pairs[i].words);
    lb_free(t->pairs);
    lb_free(t->symbols);
    lb_free(t->first);
    lb_free(t->lengths);
    lb_free(t->heap);
    lb_free(t->touched);
    lb_free(t->texts);
    lb_free(t->text_at);
    lb_free(t->made.list);
    lb_pair_map_free(&t->index);
    lb_string_map_free(&t->ids);
    lb_text_free(&t->spelling);
}

/* ---- The heap: the most frequent pair on top, of equals the lowest ---------------------------------------- */

static bool before(const trainer *t, candidate a, candidate b)
{
    const pair *p = &t->pairs[a.pair], *q = &t->pairs[b.pair];
    if (a.count != b.count)
        return a.count > b.count;
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static lb_status push(trainer *t, candidate c, lb_error *err)
{
    if (t->heap_count == t->heap_capacity) {
        const size_t capacity = t->heap_capacity ? 2 * t->heap_capacity : 1024;
        candidate *heap = lb_grow(t->heap, t->heap_capacity, capacity, sizeof *heap);
        if (!heap)
            return no_memory(err);
        t->heap = heap;
        t->heap_capacity = capacity;
    }
    size_t at = t->heap_count++;
    for (; at > 0 && before(t, c, t->heap[(at - 1) / 2]); at = (at - 1) / 2)
        t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = c;
    return LB_OK;
}

static candidate pop(trainer *t)
{
    const candidate top = t->heap[0], last = t->heap[--t->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= t->heap_count)
            break;
        if (child + 1 < t->heap_count && before(t, t->heap[child + 1], t->heap[child]))
            child++;
        if (!before(t, t->heap[child], last))
            break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    if (t->heap_count > 0)
        t->heap[at] = last;
    return top;
}

/* ---- Pairs ---------------------------------------------------------------------------------------------- */

static lb_status find_pair(trainer *t, uint32_t left, uint32_t right, uint32_t *out, lb_error *err)
{
    const lb_pair_entry *entry = lb_pair_map_find(&t->index, left, right);
    if (entry) {
        *out = entry->id;
        return LB_OK;
    }
    if (t->pair_count == t->pair_capacity) {
        const size_t capacity = t->pair_capacity ? 2 * t->pair_capacity : 1024;
        pair *pairs = lb_grow(t->pairs, t->pair_capacity, capacity, sizeof *pairs);
        if (!pairs)
            return no_memory(err);
        t->pairs = pairs;
        t->pair_capacity = capacity;
    }
    *out = (uint32_t)t->pair_count;
    LB_TRY(lb_pair_map_set(&t->index, left, right, 0, *out, err));
    t->pairs[t->pair_count++] = (pair){.left = left, .right = right};
    return LB_OK;
}

static lb_status add_word(pair *p, uint32_t word, lb_error *err)
{
    if (p->word_count > 0 && p->words[p->word_count - 1] == word)
        return LB_OK;
    if (p->word_count == p->word_capacity) {
        const size_t capacity = p->word_capacity ? 2 * p->word_capacity : 4;
        uint32_t *words = lb_grow(p->words, p->word_capacity, capacity, sizeof *words);
        if (!words)
            return no_memory(err);
        p->words = words;
        p->word_capacity = capacity;
    }
    p->words[p->word_count++] = word;
    return LB_OK;
}

static lb_status touch(trainer *t, uint32_t index, lb_error *err)
{
    if (t->pairs[index].touched == t->made.count)
        return LB_OK;
    if (t->touched_count == t->touched_capacity) {
        const size_t capacity = t->touched_capacity ? 2 * t->touched_capacity : 1024;
        uint32_t *touched = lb_grow(t->touched, t->touched_capacity, capacity, sizeof *touched);
        if (!touched)
            return no_memory(err);
        t->touched = touched;
        t->touched_capacity = capacity;
    }
    t->pairs[index].touched = t->made.count;
    t->touched[t->touched_count++] = index;
    return LB_OK;
}

/* Adds a word's pairs to the counts, or takes them away. Only pairs with the new symbol can become more. */
static lb_status count_pairs(trainer *t, uint32_t word, bool adds, uint32_t made, lb_error *err)
{
    const uint32_t *s = t->symbols + t->first[word];
    const uint64_t times = t->words->words[word].count;
    uint32_t index = 0;
    for (size_t i = 0; i + 1 < t->lengths[word]; i++) {
        LB_TRY(find_pair(t, s[i], s[i + 1], &index, err));
        pair *p = &t->pairs[index];
        p->count = adds ? p->count + times : p->count - times;
        if (!adds)
            continue;
        LB_TRY(add_word(p, word, err));
        if (s[i] == made || s[i + 1] == made)
            LB_TRY(touch(t, index, err));
    }
    return LB_OK;
}

/* Every occurrence of the pair in the word, from its beginning, becomes `made`. */
static void merge_word(trainer *t, uint32_t word, uint32_t left, uint32_t right, uint32_t made)
{
    uint32_t *s = t->symbols + t->first[word];
    size_t kept = 0;
    for (size_t i = 0; i < t->lengths[word]; i++) {
        const bool both = s[i] == left && i + 1 < t->lengths[word] && s[i + 1] == right;
        s[kept++] = both ? made : s[i];
        i += both;
    }
    t->lengths[word] = (uint32_t)kept;
}

/* ---- Symbols -------------------------------------------------------------------------------------------- */

/* The symbol spelled so: an old one, or the next. */
static lb_status find_symbol(trainer *t, const char *text, size_t length, uint32_t *out, lb_error *err)
{
    *out = lb_string_map_find(&t->ids, t->texts, text, length);
    if (*out != LB_NO_ID)
        return LB_OK;
    const size_t id = t->made.symbols++;
    t->text_at[id] = t->spelling.length;
    lb_text_add(&t->spelling, text, length);
    if (t->spelling.failed)
        return no_memory(err);
    const bool moved = id > 0 && t->texts[0].data != t->spelling.data;
    for (size_t i = 0; moved && i < id; i++)
        t->texts[i].data = t->spelling.data + t->text_at[i];
    t->texts[id] = (lb_token_text){t->spelling.data + t->text_at[id], length};
    (void)lb_string_map_add(&t->ids, t->texts, (uint32_t)id);
    *out = (uint32_t)id;
    return LB_OK;
}

static lb_status begin(trainer *t, size_t symbols, lb_error *err)
{
    const lb_word_counts *w = t->words;
    size_t bytes = 0;
    uint32_t symbol;
    LB_TRY(lb_alloc_array(&t->symbols, w->text.length, sizeof *t->symbols, "tokenizer training", err));
    LB_TRY(lb_alloc_array(&t->first, w->count + 1, sizeof *t->first, "tokenizer training", err));
    LB_TRY(lb_alloc_array(&t->lengths, w->count, sizeof *t->lengths, "tokenizer training", err));
    LB_TRY(lb_alloc_array(&t->texts, symbols, sizeof *t->texts, "tokenizer training", err));
    LB_TRY(lb_alloc_array(&t->text_at, symbols, sizeof *t->text_at, "tokenizer training", err));
    LB_TRY(lb_string_map_init(&t->ids, symbols, err));
    LB_TRY(lb_pair_map_init(&t->index, 1 << 16, err));
    for (unsigned byte = 0; byte < BYTES; byte++) {
        char text[4];
        LB_TRY(find_symbol(t, text, lb_utf8_put(lb_byte_alphabet((uint8_t)byte), text), &symbol, err));
    }
    for (size_t i = 0; i < w->count; i++) {
        const char *text = w->text.data + w->words[i].at;
        t->first[i] = bytes;
        for (size_t at = 0, used; at < w->words[i].length; at += used) {
            uint32_t code;
            lb_utf8_next(text + at, w->words[i].length - at, &code, &used);
            t->symbols[bytes++] = (uint32_t)lb_byte_from_alphabet(code);
        }
        t->lengths[i] = (uint32_t)(bytes - t->first[i]);
        LB_TRY(count_pairs(t, (uint32_t)i, true, LB_NO_ID, err));
    }
    for (size_t i = 0; i < t->pair_count; i++)
        LB_TRY(push(t, (candidate){t->pairs[i].count, (uint32_t)i}, err));
    return LB_OK;
}

static lb_status note_merge(trainer *t, uint32_t left, uint32_t right, uint32_t *made, lb_error *err)
{
    lb_text text = {0};
    lb_text_add(&text, t->texts[left].data, t->texts[left].length);
    lb_text_add(&text, t->texts[right].data, t->texts[right].length);
    const lb_status st = text.failed ? no_memory(err) : find_symbol(t, text.data, text.length, made, err);
    lb_text_free(&text);
    LB_TRY(st);
    if (t->made.count == t->merge_capacity) {
        const size_t capacity = t->merge_capacity ? 2 * t->merge_capacity : 1024;
        lb_merge *list = lb_grow(t->made.list, t->merge_capacity, capacity, sizeof *list);
        if (!list)
            return no_memory(err);
        t->made.list = list;
        t->merge_capacity = capacity;
    }
    t->made.list[t->made.count++] = (lb_merge){left, right, *made};
    return LB_OK;
}

/* The pair's list of words is taken from it first: no word has the pair any more afterwards, and `pairs` moves. */
static lb_status merge(trainer *t, uint32_t index, lb_error *err)
{
    pair *p = &t->pairs[index];
    const uint32_t left = p->left, right = p->right;
    uint32_t *const words = p->words, made;
    const size_t count = p->word_count;
    lb_status st = LB_OK;
    p->words = NULL;
    p->word_count = p->word_capacity = 0;
    p->merged = true;
    LB_GO(note_merge(t, left, right, &made, err));
    t->touched_count = 0;
    for (size_t i = 0; i < count; i++) {
        LB_GO(count_pairs(t, words[i], false, made, err));
        merge_word(t, words[i], left, right, made);
        LB_GO(count_pairs(t, words[i], true, made, err));
    }
    for (size_t i = 0; i < t->touched_count; i++)
        LB_GO(push(t, (candidate){t->pairs[t->touched[i]].count, t->touched[i]}, err));
done:
    lb_free(words);
    return st;
}

lb_status lb_bpe_train(const lb_word_counts *words, size_t symbols, const lb_progress *progress,
                       lb_merges *out, lb_error *err)
{
    enum { TELL_EVERY = 64 };
    trainer t = {.words = words};
    lb_status st = LB_OK;
    if (symbols < BYTES)
        return lb_fail(err, LB_EINVAL, "tokenizer training: %zu symbols, want at least the %d bytes", symbols,
                       BYTES);
    LB_GO(begin(&t, symbols, err));
    while (t.made.symbols < symbols && t.heap_count > 0) {
        const candidate c = pop(&t);
        const pair *p = &t.pairs[c.pair];
        if (p->merged || p->count < LEAST_COUNT)
            continue;
        if (p->count != c.count) {
            LB_GO(push(&t, (candidate){p->count, c.pair}, err));
            continue;
        }
        LB_GO(merge(&t, c.pair, err));
        if (t.made.count % TELL_EVERY == 0)
            LB_GO(lb_progress_tell(progress, "training the tokenizer", t.made.symbols, symbols, err));
    }
    *out = t.made;
    t.made.list = NULL;
done:
    trainer_free(&t);
    return st;
}

/* ---- The tokenizer.json --------------------------------------------------------------------------------- */

/* The spelling of every symbol, NUL-terminated, in *blob (lb_free) from at[symbol] on. */
static lb_status spell(const lb_merges *m, lb_text *blob, size_t *at, lb_error *err)
{
    size_t known = 0;
    for (; known < BYTES; known++) {
        char text[4];
        at[known] = blob->length;
        lb_text_add(blob, text, lb_utf8_put(lb_byte_alphabet((uint8_t)known), text));
        lb_text_add(blob, "", 1);
    }
    for (size_t i = 0; i < m->count && !blob->failed; i++) {
        if (m->list[i].made != known)
            continue; /* an older symbol */
        lb_text joined = {0};
        lb_text_add_string(&joined, blob->data + at[m->list[i].left]);
        lb_text_add_string(&joined, blob->data + at[m->list[i].right]);
        at[known++] = blob->length;
        lb_text_add(blob, joined.data, joined.length + 1);
        blob->failed = blob->failed || joined.failed;
        lb_text_free(&joined);
    }
    return blob->failed ? no_memory(err) : LB_OK;
}

static json_t *vocab_and_merges(const lb_merges *m, const char *blob, const size_t *at)
{
    json_t *vocab = json_object(), *merges = json_array();
    int failed = json_object_set_new(vocab, LB_SEPARATOR, json_integer(0));
    for (size_t i = 0; i < m->symbols; i++)
        failed |= json_object_set_new(vocab, blob + at[i], json_integer((json_int_t)i + 1));
    for (size_t i = 0; i < m->count; i++)
        failed |= json_array_append_new(
            merges, json_sprintf("%s %s", blob + at[m->list[i].left], blob + at[m->list[i].right]));
    json_t *model =
        failed ? NULL
               : json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:O, s:O}", "type", "BPE", "dropout",
                           "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                           "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    json_decref(vocab);
    json_decref(merges);
    return model;
}

lb_status lb_bpe_describe(const lb_merges *m, json_t **tokenizer, json_t **tokenizer_config, lb_error *err)
{
    lb_text blob = {0};
    size_t *at;
    json_t *model = NULL, *config = NULL;
    lb_status st = LB_OK;
    LB_TRY(lb_alloc_array(&at, m->symbols, sizeof *at, "tokenizer", err));
    LB_GO(spell(m, &blob, at, err));
    model = vocab_and_merges(m, blob.data, at);
    config = json_pack("{s:s, s:s, s:s, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token",
                       LB_SEPARATOR, "eos_token", LB_SEPARATOR, "add_bos_token", 0,
                       "clean_up_tokenization_spaces", 0);
    if (!model || !config) {
        st = no_memory(err);
        goto done;
    }
    json_t *added = json_pack("[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}]", "id", 0, "content", LB_SEPARATOR,
                              "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                "trim_offsets", 1, "use_regex", 1);
    LB_GO(lb_tokenizer_assemble(added, json_null(), lb_byte_level_spec(), json_null(), decoder,
                                json_incref(model), "the trained tokenizer", tokenizer, err));
    *tokenizer_config = json_incref(config);
done:
    json_decref(model);
    json_decref(config);
    lb_text_free(&blob);
    lb_free(at);
    return st;
}
