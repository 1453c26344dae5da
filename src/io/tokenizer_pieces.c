/* SPDX-License-Identifier: MIT
 *
 * SentencePiece's BPE merges whichever adjacent pair makes the piece with the best score, the leftmost of
 * equals. As a list of merges, that is every way to cut every piece into two pieces, best score first; of
 * equal scores the longest left part first, then the longest right part, as in Hugging Face's converter:
 * a run of spaces, whose pieces share one score, then grows from its left end as in SentencePiece. */
#define _GNU_SOURCE
#include "io/tokenizer_pieces.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/token_map.h"
#include "io/tokenizer_bpe.h"

#define MARKER "\xE2\x96\x81" /* U+2581 stands for a space */

/* Cutting a piece in two takes time quadratic in its length; real ones have at most a few dozen bytes. */
enum { MAX_PIECE_BYTES = 1024 };

typedef struct merge {
    uint32_t piece, left, right;
    uint32_t left_length, right_length; /* in characters */
} merge;

typedef struct merge_list {
    const lb_piece *pieces;
    lb_token_text *texts;
    lb_string_map ids;
    merge *merges;
    size_t count, capacity;
    bool has_space; /* some piece holds a space: "a b" would be ambiguous */
} merge_list;

static lb_status no_memory(const char *where, lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "%s: no memory to convert its tokenizer", where);
}

lb_status lb_pieces_vocab(const lb_piece *pieces, size_t count, const char *where, json_t **vocab,
                          lb_error *err)
{
    json_t *object = json_object();
    lb_status st = LB_OK;
    if (!object)
        return no_memory(where, err);
    for (size_t i = 0; i < count && st == LB_OK; i++) {
        lb_span text = pieces[i].text;
        if (pieces[i].type == LB_PIECE_UNUSED) /* "[PAD300]": a row of the embedding that is no token */
            continue;
        if (memchr(text.data, '\0', text.length))
            st = lb_fail(err, LB_EUNSUPPORTED, "%s: token %zu holds a NUL byte", where, i);
        else if (json_object_getn(object, text.data, text.length))
            st = lb_fail(err, LB_EFORMAT, "%s: the token \"%.*s\" comes twice, as %zu and before", where,
                         text.length > 60 ? 60 : (int)text.length, text.data, i);
        else if (json_object_setn_new(object, text.data, text.length, json_integer((json_int_t)i)) != 0)
            st = lb_fail(err, LB_EFORMAT, "%s: token %zu is not valid UTF-8", where, i);
    }
    if (st == LB_OK)
        *vocab = object;
    else
        json_decref(object);
    return st;
}

lb_status lb_pieces_added(const lb_piece *pieces, size_t count, const char *where, json_t **added,
                          lb_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count && list; i++) {
        lb_piece_type type = pieces[i].type;
        bool special = type == LB_PIECE_CONTROL || type == LB_PIECE_UNKNOWN;
        /* A user's piece with a marker can only be met after normalization: merges make it. */
        bool marked = memmem(pieces[i].text.data, pieces[i].text.length, MARKER, 3) != NULL;
        if (pieces[i].text.length == 0 || (!special && (type != LB_PIECE_USER || marked)))
            continue;
        json_t *content = json_stringn(pieces[i].text.data, pieces[i].text.length);
        json_t *token =
            json_pack("{s:I,s:o,s:b,s:b,s:b,s:b,s:b}", "id", (json_int_t)i, "content", content, "single_word",
                      0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", (int)special);
        if (json_array_append_new(list, token) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (!list)
        return no_memory(where, err);
    *added = list;
    return LB_OK;
}

json_t *lb_bos_template(const char *token, size_t id)
{
    json_int_t number = (json_int_t)id;
    return json_pack("{s:s,s:[{s:{s:s,s:i}},{s:{s:s,s:i}}],"
                     "s:[{s:{s:s,s:i}},{s:{s:s,s:i}},{s:{s:s,s:i}},{s:{s:s,s:i}}],"
                     "s:{s:{s:s,s:[I],s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", token, "type_id", 0,
                     "Sequence", "id", "A", "type_id", 0, "pair", "SpecialToken", "id", token, "type_id", 0,
                     "Sequence", "id", "A", "type_id", 0, "SpecialToken", "id", token, "type_id", 1,
                     "Sequence", "id", "B", "type_id", 1, "special_tokens", token, "id", token, "ids", number,
                     "tokens", token);
}

lb_status lb_tokenizer_assemble(json_t *added, json_t *normalizer, json_t *pre_tokenizer,
                                json_t *post_processor, json_t *decoder, json_t *model, const char *where,
                                json_t **tokenizer, lb_error *err)
{
    static const char *const names[] = {"added_tokens",   "normalizer", "pre_tokenizer",
                                        "post_processor", "decoder",    "model"};
    json_t *parts[] = {added, normalizer, pre_tokenizer, post_processor, decoder, model};
    json_t *object = json_pack("{s:s,s:n,s:n}", "version", "1.0", "truncation", "padding");
    bool failed = !object;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        failed |= !parts[i];
        if (object && parts[i])
            failed |= json_object_set_new(object, names[i], parts[i]) != 0;
        else
            json_decref(parts[i]);
    }
    if (failed) {
        json_decref(object);
        return no_memory(where, err);
    }
    *tokenizer = object;
    return LB_OK;
}

/* ---- merges ---- */

/* What text can be merged into: not the control tokens, and not the names of bytes. */
static bool is_text(const lb_piece *piece)
{
    return piece->text.length > 0 && piece->type != LB_PIECE_CONTROL && piece->type != LB_PIECE_UNKNOWN &&
           piece->type != LB_PIECE_BYTE;
}

static lb_status add_merge(merge_list *list, merge entry, const char *where, lb_error *err)
{
    if (list->count == LB_MERGES_MAX)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: its pieces make more than %d merges", where, LB_MERGES_MAX);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity < 1024 ? 1024 : 2 * list->capacity;
        merge *bigger = lb_grow(list->merges, list->count, capacity, sizeof *bigger);
        if (!bigger)
            return no_memory(where, err);
        list->merges = bigger;
        list->capacity = capacity;
    }
    list->merges[list->count++] = entry;
    return LB_OK;
}

static lb_status cut_piece(merge_list *list, uint32_t index, const char *where, lb_error *err)
{
    lb_token_text text = list->texts[index];
    if (text.length > MAX_PIECE_BYTES)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: the piece %u has %zu bytes, more than %d", where,
                       (unsigned)index, text.length, MAX_PIECE_BYTES);
    uint32_t total = 0, characters = 0;
    for (size_t i = 0; i < text.length; i++)
        total += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    for (size_t i = 1; i < text.length; i++) {
        if (((unsigned char)text.data[i] & 0xC0) == 0x80)
            continue; /* not between characters */
        characters++;
        uint32_t left = lb_string_map_find(&list->ids, list->texts, text.data, i);
        if (left == LB_NO_ID)
            continue;
        uint32_t right = lb_string_map_find(&list->ids, list->texts, text.data + i, text.length - i);
        if (right == LB_NO_ID)
            continue;
        merge cut = {index, left, right, characters, total - characters};
        LB_TRY(add_merge(list, cut, where, err));
    }
    return LB_OK;
}

static int by_score(const void *a, const void *b, void *pieces_argument)
{
    const merge *x = a, *y = b;
    const lb_piece *pieces = pieces_argument;
    double sx = pieces[x->piece].score, sy = pieces[y->piece].score;
    if (sx != sy)
        return sx > sy ? -1 : 1;
    if (x->left_length != y->left_length)
        return x->left_length > y->left_length ? -1 : 1;
    if (x->right_length != y->right_length)
        return x->right_length > y->right_length ? -1 : 1;
    return x->piece < y->piece ? -1 : x->piece > y->piece; /* one piece has one cut of these lengths */
}

static lb_status collect(merge_list *list, size_t count, const char *where, lb_error *err)
{
    LB_TRY(lb_alloc_array(&list->texts, count, sizeof *list->texts, where, err));
    LB_TRY(lb_string_map_init(&list->ids, count, err));
    for (size_t i = 0; i < count; i++) {
        lb_span text = list->pieces[i].text;
        list->texts[i] = (lb_token_text){text.data, text.length};
        list->has_space |= memchr(text.data, ' ', text.length) != NULL;
        if (is_text(&list->pieces[i]))
            (void)lb_string_map_add(&list->ids, list->texts,
                                    (uint32_t)i); /* distinct: the vocabulary was made */
    }
    for (size_t i = 0; i < count; i++)
        if (is_text(&list->pieces[i]))
            LB_TRY(cut_piece(list, (uint32_t)i, where, err));
    if (list->count > 0)
        qsort_r(list->merges, list->count, sizeof *list->merges, by_score, (void *)list->pieces);
    return LB_OK;
}

static json_t *merge_to_json(const merge_list *list, const merge *entry)
{
    lb_token_text left = list->texts[entry->left], right = list->texts[entry->right];
    if (list->has_space)
        return json_pack("[s%,s%]", left.data, left.length, right.data, right.length);
    char joined[MAX_PIECE_BYTES + 1];
    memcpy(joined, left.data, left.length);
    joined[left.length] = ' ';
    memcpy(joined + left.length + 1, right.data, right.length);
    return json_stringn(joined, left.length + 1 + right.length);
}

static lb_status make_merges(const lb_piece *pieces, size_t count, const char *where, json_t **merges,
                             lb_error *err)
{
    merge_list list = {.pieces = pieces};
    json_t *array = json_array();
    lb_status st;
    LB_GO(collect(&list, count, where, err));
    for (size_t i = 0; i < list.count; i++)
        if (json_array_append_new(array, merge_to_json(&list, &list.merges[i])) != 0) {
            st = no_memory(where, err);
            goto done;
        }
    *merges = array;
    array = NULL;
done:
    json_decref(array);
    lb_free(list.texts);
    lb_free(list.merges);
    lb_string_map_free(&list.ids);
    return st;
}

/* ---- the whole ---- */

static bool has_all_bytes(const json_t *vocab)
{
    char name[8] = "<0x00>";
    for (unsigned byte = 0; byte < 256; byte++) {
        name[3] = "0123456789ABCDEF"[byte >> 4];
        name[4] = "0123456789ABCDEF"[byte & 15];
        if (!json_object_get(vocab, name))
            return false;
    }
    return true;
}

static json_t *replace_step(const char *kind, const char *pattern, const char *content)
{
    return json_pack("{s:s,s:{s:s},s:s}", "type", "Replace", "pattern", kind, pattern, "content", content);
}

static json_t *make_normalizer(const lb_piece_options *options)
{
    json_t *steps = json_array();
    if (options->squeeze) {
        json_array_append_new(steps, replace_step("Regex", "\\A +| +\\z", ""));
        json_array_append_new(steps, replace_step("Regex", " {2,}", " "));
    }
    if (options->add_prefix)
        json_array_append_new(steps, json_pack("{s:s,s:s}", "type", "Prepend", "prepend", MARKER));
    json_array_append_new(steps, replace_step("String", " ", MARKER));
    return json_pack("{s:s,s:o}", "type", "Sequence", "normalizers", steps);
}

static json_t *make_decoder(const lb_piece_options *options)
{
    json_t *steps = json_array();
    json_array_append_new(steps, replace_step("String", MARKER, " "));
    json_array_append_new(steps, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(steps, json_pack("{s:s}", "type", "Fuse"));
    if (options->add_prefix)
        json_array_append_new(
            steps, json_pack("{s:s,s:s,s:i,s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s,s:o}", "type", "Sequence", "decoders", steps);
}

/* Always a text that ends in NUL: pieces are not NUL-terminated. */
static lb_status piece_name(const lb_piece *pieces, size_t index, const char *where, char **out,
                            lb_error *err)
{
    *out = lb_strndup(pieces[index].text.data, pieces[index].text.length);
    return *out ? LB_OK : no_memory(where, err);
}

lb_status lb_tokenizer_from_pieces(const lb_piece *pieces, size_t count, const lb_piece_options *options,
                                   const char *where, json_t **tokenizer, lb_error *err)
{
    json_t *vocab = NULL, *merges = NULL, *added = NULL;
    char *unk = NULL, *bos = NULL;
    lb_status st;
    LB_GO(lb_pieces_vocab(pieces, count, where, &vocab, err));
    LB_GO(lb_pieces_added(pieces, count, where, &added, err));
    LB_GO(make_merges(pieces, count, where, &merges, err));
    if (options->unk < count)
        LB_GO(piece_name(pieces, options->unk, where, &unk, err));
    if (options->add_bos && options->bos < count)
        LB_GO(piece_name(pieces, options->bos, where, &bos, err));
    json_t *model =
        json_pack("{s:s,s:n,s:s?,s:n,s:n,s:b,s:b,s:b,s:O,s:O}", "type", "BPE", "dropout", "unk_token", unk,
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 1, "byte_fallback",
                  (int)has_all_bytes(vocab), "ignore_merges", 0, "vocab", vocab, "merges", merges);
    st = lb_tokenizer_assemble(json_incref(added), make_normalizer(options), json_null(),
                               bos ? lb_bos_template(bos, options->bos) : json_null(), make_decoder(options),
                               model, where, tokenizer, err);
done:
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    lb_free(unk);
    lb_free(bos);
    return st;
}
