/* SPDX-License-Identifier: MIT
 *
 * Reading the "model" of a tokenizer.json: vocabulary and merges, every id and every merge checked. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "io/tokenizer_bpe.h"
#include "io/utf8.h"

#define MARKER "\xE2\x96\x81" /* U+2581, SentencePiece's word marker */

static lb_status measure_vocab(const json_t *vocab, const char *where, size_t *ids, size_t *bytes,
                               lb_error *err)
{
    const char *token;
    json_t *value;
    *ids = *bytes = 0;
    json_object_foreach((json_t *)vocab, token, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= LB_VOCAB_MAX)
            return lb_fail(err, LB_EFORMAT, "%s: the token \"%.60s\" has no id between 0 and %d", where,
                           token, LB_VOCAB_MAX - 1);
        if ((size_t)id >= *ids)
            *ids = (size_t)id + 1;
        *bytes += strlen(token) + 1;
    }
    if (*ids == 0)
        return lb_fail(err, LB_EFORMAT, "%s: its vocabulary is empty", where);
    return LB_OK;
}

static lb_status read_vocab(lb_bpe *bpe, const json_t *vocab, const char *where, lb_error *err)
{
    if (!json_is_object(vocab))
        return lb_fail(err, LB_EFORMAT, "%s: its model has no object \"vocab\"", where);
    size_t ids, bytes, used = 0;
    LB_TRY(measure_vocab(vocab, where, &ids, &bytes, err));
    bpe->texts = lb_alloc_zero(ids, sizeof *bpe->texts);
    bpe->blob = lb_alloc(bytes, 1);
    if (!bpe->texts || !bpe->blob)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for %zu tokens", where, ids);
    bpe->vocab_size = ids;
    LB_TRY(lb_string_map_init(&bpe->ids, json_object_size(vocab), err));
    const char *token;
    json_t *value;
    json_object_foreach((json_t *)vocab, token, value)
    {
        size_t id = (size_t)json_integer_value(value), length = strlen(token);
        if (bpe->texts[id].data)
            return lb_fail(err, LB_EFORMAT, "%s: the tokens \"%.60s\" and \"%.60s\" share the id %zu", where,
                           bpe->texts[id].data, token, id);
        memcpy(bpe->blob + used, token, length + 1);
        bpe->texts[id] = (lb_token_text){bpe->blob + used, length};
        used += length + 1;
        (void)lb_string_map_add(&bpe->ids, bpe->texts, (uint32_t)id); /* keys of an object are distinct */
    }
    return LB_OK;
}

static void index_characters(lb_bpe *bpe)
{
    char bytes[4], name[8];
    for (uint32_t code = 0; code < LB_DIRECT_CODES; code++)
        bpe->direct[code] = lb_bpe_id(bpe, bytes, lb_utf8_put(code, bytes));
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", byte);
        bpe->byte_ids[byte] = lb_bpe_id(bpe, name, 6);
    }
}

/* The two halves of one merge: ["a", "b"], or "a b" with exactly one space. */
static bool merge_halves(const json_t *merge, lb_token_text half[2])
{
    if (json_is_array(merge)) {
        if (json_array_size(merge) != 2)
            return false;
        for (size_t i = 0; i < 2; i++) {
            const json_t *part = json_array_get(merge, i);
            if (!json_is_string(part))
                return false;
            half[i] = (lb_token_text){json_string_value(part), json_string_length(part)};
        }
        return true;
    }
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        return false;
    half[0] = (lb_token_text){text, (size_t)(space - text)};
    half[1] = (lb_token_text){space + 1, json_string_length(merge) - half[0].length - 1};
    return true;
}

static bool starts_with_marker(lb_token_text text)
{
    return text.length >= 3 && memcmp(text.data, MARKER, 3) == 0;
}

static bool ends_with_marker(lb_token_text text)
{
    return text.length >= 3 && memcmp(text.data + text.length - 3, MARKER, 3) == 0;
}

static lb_status read_merge(lb_bpe *bpe, const json_t *merge, size_t rank, lb_text *joined, const char *where,
                            lb_error *err)
{
    lb_token_text half[2];
    if (!merge_halves(merge, half))
        return lb_fail(err, LB_EFORMAT, "%s: merge %zu is not two tokens", where, rank);
    uint32_t id[3];
    joined->length = 0;
    for (int i = 0; i < 2; i++) {
        id[i] = lb_bpe_id(bpe, half[i].data, half[i].length);
        lb_text_add(joined, half[i].data, half[i].length);
        if (id[i] == LB_NO_ID)
            return lb_fail(err, LB_EFORMAT, "%s: merge %zu uses \"%.*s\", which is not in the vocabulary",
                           where, rank, half[i].length > 60 ? 60 : (int)half[i].length, half[i].data);
    }
    if (joined->failed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its merges", where);
    id[2] = lb_bpe_id(bpe, joined->data, joined->length);
    if (id[2] == LB_NO_ID)
        return lb_fail(err, LB_EFORMAT, "%s: merge %zu makes \"%.60s\", which is not in the vocabulary",
                       where, rank, joined->data);
    if (starts_with_marker(half[1]) && !ends_with_marker(half[0]))
        bpe->cuts_at_marker = false;
    return lb_pair_map_set(&bpe->merges, id[0], id[1], (uint32_t)rank, id[2], err);
}

static lb_status read_merges(lb_bpe *bpe, const json_t *merges, const char *where, lb_error *err)
{
    if (!json_is_array(merges))
        return lb_fail(err, LB_EFORMAT, "%s: its model has no list \"merges\"", where);
    size_t count = json_array_size(merges);
    if (count > LB_MERGES_MAX)
        return lb_fail(err, LB_EFORMAT, "%s: %zu merges, more than the %d that lowbit allows", where, count,
                       LB_MERGES_MAX);
    LB_TRY(lb_pair_map_init(&bpe->merges, count, err));
    bpe->cuts_at_marker = lb_bpe_id(bpe, MARKER, 3) != LB_NO_ID && !bpe->ignore_merges;
    lb_text joined = {0};
    lb_status st = LB_OK;
    for (size_t rank = 0; rank < count && st == LB_OK; rank++)
        st = read_merge(bpe, json_array_get(merges, rank), rank, &joined, where, err);
    lb_text_free(&joined);
    return st;
}

/* Options that change what a text becomes and that lowbit does not know how to follow. */
static lb_status refuse_options(const json_t *model, const char *where, lb_error *err)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *text;
        LB_TRY(lb_json_string(model, affixes[i], "", where, &text, err));
        if (*text)
            return lb_fail(err, LB_EUNSUPPORTED, "%s: a BPE model with a %s (\"%.20s\") is not supported",
                           where, affixes[i], text);
    }
    double dropout;
    LB_TRY(lb_json_double(model, "dropout", 0.0, where, &dropout, err));
    if (dropout != 0.0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: a BPE model with dropout %g is not supported", where,
                       dropout);
    return LB_OK;
}

static lb_status read_model(lb_bpe *bpe, const json_t *model, const char *where, lb_error *err)
{
    const char *type, *unk;
    LB_TRY(lb_json_string(model, "type", json_object_get(model, "merges") ? "BPE" : "of no type", where,
                          &type, err));
    if (strcmp(type, "BPE") != 0)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: a tokenizer model \"%s\" is not supported, only BPE is",
                       where, type);
    LB_TRY(refuse_options(model, where, err));
    LB_TRY(lb_json_bool(model, "byte_fallback", false, where, &bpe->byte_fallback, err));
    LB_TRY(lb_json_bool(model, "fuse_unk", false, where, &bpe->fuse_unk, err));
    LB_TRY(lb_json_bool(model, "ignore_merges", false, where, &bpe->ignore_merges, err));
    LB_TRY(read_vocab(bpe, json_object_get(model, "vocab"), where, err));
    index_characters(bpe);
    LB_TRY(lb_json_string(model, "unk_token", NULL, where, &unk, err));
    bpe->unk = unk ? lb_bpe_id(bpe, unk, strlen(unk)) : LB_NO_ID;
    if (unk && bpe->unk == LB_NO_ID)
        return lb_fail(err, LB_EFORMAT, "%s: its unk_token \"%.60s\" is not in the vocabulary", where, unk);
    return read_merges(bpe, json_object_get(model, "merges"), where, err);
}

lb_status lb_bpe_create(const json_t *model, const char *where, lb_bpe **out, lb_error *err)
{
    if (!json_is_object(model))
        return lb_fail(err, LB_EFORMAT, "%s: its tokenizer.json has no object \"model\"", where);
    lb_bpe *bpe = lb_alloc_zero(1, sizeof *bpe);
    if (!bpe)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a tokenizer", where);
    lb_status st = read_model(bpe, model, where, err);
    if (st == LB_OK)
        *out = bpe;
    else
        lb_bpe_destroy(bpe);
    return st;
}

void lb_bpe_destroy(lb_bpe *bpe)
{
    if (!bpe)
        return;
    lb_free(bpe->blob);
    lb_free(bpe->texts);
    lb_free(bpe->forbidden);
    lb_string_map_free(&bpe->ids);
    lb_pair_map_free(&bpe->merges);
    lb_free(bpe);
}

lb_status lb_bpe_forbid(lb_bpe *bpe, const uint32_t *ids, size_t count, lb_error *err)
{
    bpe->forbidden = lb_alloc_zero(bpe->vocab_size, sizeof *bpe->forbidden);
    if (!bpe->forbidden)
        return lb_fail(err, LB_ENOMEM, "no memory for a tokenizer");
    for (size_t i = 0; i < count; i++)
        if (ids[i] < bpe->vocab_size)
            bpe->forbidden[ids[i]] = true;
    for (size_t i = 0; i <= bpe->merges.mask; i++) {
        lb_pair_entry *merge = &bpe->merges.slots[i];
        if (merge->left != LB_NO_ID && bpe->forbidden[merge->id])
            merge->rank = LB_NO_RANK;
    }
    return LB_OK;
}
