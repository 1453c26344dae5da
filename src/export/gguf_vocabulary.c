/* SPDX-License-Identifier: MIT
 * See gguf_vocabulary.h; io/tokenizer_gguf.c is the way back. */
#include "export/gguf_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer.h"
#include "io/tokenizer_pieces.h"

#define MARKER "\xE2\x96\x81" /* U+2581 stands for a space */

typedef struct vocabulary {
    const char *where;
    const json_t *tokenizer, *settings; /* tokenizer.json and tokenizer_config.json; the latter may be NULL */
    const json_t *model, *merges;
    lb_piece *pieces; /* [count] */
    size_t count;
    char *names; /* of the places without a token */
    size_t unk;
    lb_tokenizer *opened;
} vocabulary;

static lb_status no_memory(const vocabulary *v, lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "%s: no memory to convert its tokenizer", v->where);
}

static lb_status refuse(const vocabulary *v, const char *what, lb_error *err)
{
    return lb_fail(err, LB_EUNSUPPORTED,
                   "%s: its tokenizer has %s, for which GGUF has no words; --to safetensors keeps it",
                   v->where, what);
}

/* ---- Tokens ------------------------------------------------------------------------------------------ */

static bool is_byte_name(const char *text, size_t length)
{
    return length == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static void place(vocabulary *v, json_int_t id, const json_t *text, lb_piece_type type)
{
    if (id < 0 || (size_t)id >= v->count)
        return; /* lb_tokenizer_check_rows has looked already */
    v->pieces[id].text = (lb_span){json_string_value(text), json_string_length(text)};
    v->pieces[id].type = type;
}

static lb_status list_tokens(vocabulary *v, lb_error *err)
{
    enum { NAME_BYTES = 16 };
    json_t *vocab = json_object_get(v->model, "vocab"), *id;
    const json_t *token;
    const char *text;
    const bool bytes = json_is_true(json_object_get(v->model, "byte_fallback"));
    size_t i;
    v->pieces = lb_alloc_zero(v->count, sizeof *v->pieces);
    v->names = lb_alloc(v->count, NAME_BYTES);
    if (!v->pieces || !v->names)
        return no_memory(v, err);
    for (i = 0; i < v->count; i++) {
        char *name = v->names + i * NAME_BYTES;
        const int length = snprintf(name, NAME_BYTES, "[PAD%zu]", i);
        v->pieces[i] = (lb_piece){{name, (size_t)length}, 0.0, LB_PIECE_UNUSED};
    }
    json_object_foreach(vocab, text, id)
    {
        const json_int_t at = json_integer_value(id);
        const size_t length = json_object_iter_key_len(json_object_key_to_iter(text));
        if (at < 0 || (size_t)at >= v->count)
            continue;
        v->pieces[at].text = (lb_span){text, length};
        v->pieces[at].type = bytes && is_byte_name(text, length) ? LB_PIECE_BYTE : LB_PIECE_NORMAL;
    }
    json_array_foreach(json_object_get(v->tokenizer, "added_tokens"), i, token)
    {
        place(v, json_integer_value(json_object_get(token, "id")), json_object_get(token, "content"),
              json_is_true(json_object_get(token, "special")) ? LB_PIECE_CONTROL : LB_PIECE_USER);
    }
    return LB_OK;
}

/* The id of a token by its text; SIZE_MAX: there is none. */
static size_t id_of(const vocabulary *v, const char *text)
{
    for (size_t i = 0; text && i < v->count; i++) {
        const lb_span s = v->pieces[i].text;
        if (s.length == strlen(text) && memcmp(s.data, text, s.length) == 0)
            return i;
    }
    return SIZE_MAX;
}

/* A setting that is a token's text, or an object with its "content". */
static const char *token_setting(const vocabulary *v, const char *key)
{
    const json_t *value = json_object_get(v->settings, key);
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* ---- SentencePiece: scores from the list of merges ---------------------------------------------------- */

/* "a b" or ["a", "b"] -> "ab" in `out`. */
static bool join_merge(const json_t *merge, lb_text *out)
{
    out->length = 0;
    if (json_is_array(merge)) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *part = json_array_get(merge, i);
            lb_text_add(out, json_string_value(part), json_string_length(part));
        }
        return !out->failed;
    }
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    if (!space)
        return false;
    lb_text_add(out, text, (size_t)(space - text));
    lb_text_add_string(out, space + 1);
    return !out->failed;
}

/* A piece's score is minus the place of the first merge that makes it, as that of SentencePiece's own is. */
static lb_status score_pieces(vocabulary *v, lb_error *err)
{
    const json_t *vocab = json_object_get(v->model, "vocab"), *merge;
    lb_text joined = {0};
    lb_status st = LB_OK;
    size_t i;
    bool *scored = lb_alloc_zero(v->count, sizeof *scored);
    if (!scored)
        return no_memory(v, err);
    json_array_foreach(v->merges, i, merge)
    {
        const json_t *id = join_merge(merge, &joined)
                               ? json_object_getn(vocab, joined.data ? joined.data : "", joined.length)
                               : NULL;
        const json_int_t at = json_integer_value(id);
        if (!id || at < 0 || (size_t)at >= v->count)
            LB_GO(refuse(v, "merges that make no token", err));
        if (!scored[at])
            v->pieces[at].score = -(double)i;
        scored[at] = true;
    }
done:
    lb_free(scored);
    lb_text_free(&joined);
    return st;
}

static bool same_merge(const json_t *a, const json_t *b)
{
    if (json_is_array(a) == json_is_array(b))
        return json_equal(a, b);
    const json_t *pair = json_is_array(a) ? a : b;
    const char *text = json_string_value(json_is_array(a) ? b : a);
    const char *left = json_string_value(json_array_get(pair, 0));
    const size_t length = left ? strlen(left) : 0;
    const char *right = json_string_value(json_array_get(pair, 1));
    return text && left && right && strncmp(text, left, length) == 0 && text[length] == ' ' &&
           strcmp(text + length + 1, right) == 0;
}

typedef struct piece_settings {
    bool prefix, squeeze;
} piece_settings;

/* Whether the text begins with what it ends with: only then two ways to make it can compete for one place. */
static bool overlaps_itself(const lb_text *text)
{
    for (size_t n = 1; n < text->length; n++) {
        if (memcmp(text->data, text->data + text->length - n, n) == 0)
            return true;
    }
    return false;
}

/* Merges [begin, end) of `ours` make one piece, and those of `theirs` must be the same. Their order tells nothing,
 * unless the piece overlaps itself. */
static bool same_run(const json_t *ours, const json_t *theirs, size_t begin, size_t end, const lb_text *piece)
{
    bool ordered = true;
    for (size_t i = begin; i < end; i++) {
        size_t k = begin;
        ordered = ordered && same_merge(json_array_get(ours, i), json_array_get(theirs, i));
        while (k < end && !same_merge(json_array_get(ours, i), json_array_get(theirs, k)))
            k++;
        if (k == end)
            return false;
    }
    return ordered || !overlaps_itself(piece);
}

static bool same_merges(const json_t *ours, const json_t *theirs)
{
    const size_t count = json_array_size(ours);
    lb_text piece = {0}, next = {0};
    bool same = count == json_array_size(theirs);
    for (size_t begin = 0, end; same && begin < count; begin = end) {
        same = join_merge(json_array_get(ours, begin), &piece);
        for (end = begin + 1; same && end < count; end++) {
            same = join_merge(json_array_get(ours, end), &next);
            if (next.length != piece.length || memcmp(next.data, piece.data, piece.length) != 0)
                break;
        }
        same = same && same_run(ours, theirs, begin, end, &piece);
    }
    lb_text_free(&piece);
    lb_text_free(&next);
    return same;
}

/* The scores must lead back to the merges that the model has. */
static lb_status check_merges(const vocabulary *v, const piece_settings *settings, lb_error *err)
{
    const lb_piece_options options = {
        .unk = v->unk, .bos = SIZE_MAX, .add_prefix = settings->prefix, .squeeze = settings->squeeze};
    json_t *back = NULL;
    LB_TRY(lb_tokenizer_from_pieces(v->pieces, v->count, &options, v->where, &back, err));
    const bool same = same_merges(json_object_get(json_object_get(back, "model"), "merges"), v->merges);
    json_decref(back);
    return same ? LB_OK : refuse(v, "merges that do not follow from scores of pieces", err);
}

static bool is_replace(const json_t *step, const char *kind, const char *pattern, const char *content)
{
    const char *from = json_string_value(json_object_get(json_object_get(step, "pattern"), kind));
    const char *to = json_string_value(json_object_get(step, "content"));
    return from && to && strcmp(from, pattern) == 0 && strcmp(to, content) == 0;
}

/* False: a step that SentencePiece does not have. */
static bool note_normalizer(const json_t *step, piece_settings *out)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    const json_t *inner;
    size_t i;
    if (!step || json_is_null(step))
        return true;
    if (!type)
        return false;
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(step, "normalizers"), i, inner)
        {
            if (!note_normalizer(inner, out))
                return false;
        }
        return true;
    }
    if (strcmp(type, "Prepend") == 0) {
        const char *what = json_string_value(json_object_get(step, "prepend"));
        out->prefix = true;
        return what && strcmp(what, MARKER) == 0;
    }
    if (strcmp(type, "Replace") != 0)
        return false;
    if (is_replace(step, "Regex", "\\A +| +\\z", "") || is_replace(step, "Regex", " {2,}", " ")) {
        out->squeeze = true;
        return true;
    }
    return is_replace(step, "String", " ", MARKER);
}

static bool note_metaspace(const json_t *step, piece_settings *out)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    const char *marker = json_string_value(json_object_get(step, "replacement"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    if (!step || json_is_null(step))
        return true;
    if (!type || strcmp(type, "Metaspace") != 0 || !marker || strcmp(marker, MARKER) != 0 ||
        json_is_true(json_object_get(step, "split")))
        return false;
    out->prefix =
        scheme ? strcmp(scheme, "never") != 0 : !json_is_false(json_object_get(step, "add_prefix_space"));
    return true;
}

static lb_status put_pieces(vocabulary *v, lb_gguf_keys *keys, lb_error *err)
{
    piece_settings settings = {false, false};
    if (!note_normalizer(json_object_get(v->tokenizer, "normalizer"), &settings) ||
        !note_metaspace(json_object_get(v->tokenizer, "pre_tokenizer"), &settings))
        return refuse(v, "a normalizer or a pre-tokenizer that SentencePiece does not have", err);
    v->unk = id_of(v, json_string_value(json_object_get(v->model, "unk_token")));
    if (v->unk != SIZE_MAX)
        v->pieces[v->unk].type = LB_PIECE_UNKNOWN;
    LB_TRY(score_pieces(v, err));
    LB_TRY(check_merges(v, &settings, err));
    lb_gguf_put_string(keys, "tokenizer.ggml.model", "llama", 5);
    lb_gguf_put_string(keys, "tokenizer.ggml.pre", "default", 7);
    lb_gguf_begin_f32s(keys, "tokenizer.ggml.scores", v->count);
    for (size_t i = 0; i < v->count; i++)
        lb_gguf_add_f32(keys, (float)v->pieces[i].score);
    lb_gguf_put_bool(keys, "tokenizer.ggml.add_space_prefix", settings.prefix);
    lb_gguf_put_bool(keys, "tokenizer.ggml.remove_extra_whitespaces", settings.squeeze);
    return LB_OK;
}

/* ---- Byte-level models ------------------------------------------------------------------------------- */

static lb_status put_byte_level(vocabulary *v, const char *pre, lb_gguf_keys *keys, lb_error *err)
{
    const json_t *merge;
    lb_text text = {0};
    size_t i;
    lb_gguf_put_string(keys, "tokenizer.ggml.model", "gpt2", 4);
    lb_gguf_put_string(keys, "tokenizer.ggml.pre", pre, strlen(pre));
    lb_gguf_begin_strings(keys, "tokenizer.ggml.merges", json_array_size(v->merges));
    json_array_foreach(v->merges, i, merge)
    {
        text.length = 0;
        if (json_is_array(merge)) {
            lb_text_add_string(&text, json_string_value(json_array_get(merge, 0)));
            lb_text_add(&text, " ", 1);
            lb_text_add_string(&text, json_string_value(json_array_get(merge, 1)));
        } else {
            lb_text_add(&text, json_string_value(merge), json_string_length(merge));
        }
        lb_gguf_add_string(keys, text.data ? text.data : "", text.length);
    }
    const bool failed = text.failed;
    lb_text_free(&text);
    return failed ? no_memory(v, err) : LB_OK;
}

/* ---- Together ---------------------------------------------------------------------------------------- */

static void put_id(lb_gguf_keys *keys, const char *key, size_t id, size_t count)
{
    if (id < count)
        lb_gguf_put_u32(keys, key, (uint32_t)id);
}

/* The template itself, or the one of several that is called "default". */
static const json_t *chat_template(const vocabulary *v)
{
    const json_t *value = json_object_get(v->settings, "chat_template"), *named;
    size_t i;
    json_array_foreach(value, i, named)
    {
        const char *name = json_string_value(json_object_get(named, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_object_get(named, "template");
    }
    return value;
}

static void put_common(const vocabulary *v, lb_gguf_keys *keys)
{
    const json_t *chat = chat_template(v);
    const size_t pad = id_of(v, token_setting(v, "pad_token"));
    const size_t unk = v->unk != SIZE_MAX ? v->unk : id_of(v, token_setting(v, "unk_token"));
    lb_gguf_begin_strings(keys, "tokenizer.ggml.tokens", v->count);
    for (size_t i = 0; i < v->count; i++)
        lb_gguf_add_string(keys, v->pieces[i].text.data, v->pieces[i].text.length);
    lb_gguf_begin_i32s(keys, "tokenizer.ggml.token_type", v->count);
    for (size_t i = 0; i < v->count; i++)
        lb_gguf_add_i32(keys, (int32_t)v->pieces[i].type);
    put_id(keys, "tokenizer.ggml.bos_token_id", lb_tokenizer_bos(v->opened), v->count);
    put_id(keys, "tokenizer.ggml.eos_token_id", lb_tokenizer_eos(v->opened), v->count);
    put_id(keys, "tokenizer.ggml.unknown_token_id", unk, v->count);
    put_id(keys, "tokenizer.ggml.padding_token_id", pad, v->count);
    lb_gguf_put_bool(keys, "tokenizer.ggml.add_bos_token", lb_tokenizer_adds_bos(v->opened));
    lb_gguf_put_bool(keys, "tokenizer.ggml.add_eos_token", false);
    if (json_string_length(chat) > 0)
        lb_gguf_put_string(keys, "tokenizer.chat_template", json_string_value(chat),
                           json_string_length(chat));
}

static bool has_byte_level(const json_t *step)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    const json_t *inner;
    size_t i;
    json_array_foreach(json_object_get(step, "pretokenizers"), i, inner)
    {
        if (has_byte_level(inner))
            return true;
    }
    return type && strcmp(type, "ByteLevel") == 0;
}

lb_status lb_gguf_put_vocabulary(lb_gguf_keys *keys, const lb_checkpoint *checkpoint, size_t rows,
                                 lb_error *err)
{
    vocabulary v = {.where = checkpoint->path,
                    .tokenizer = checkpoint->tokenizer,
                    .settings = checkpoint->tokenizer_config,
                    .count = rows,
                    .unk = SIZE_MAX};
    lb_status st;
    if (!v.tokenizer)
        return LB_OK;
    v.model = json_object_get(v.tokenizer, "model");
    v.merges = json_object_get(v.model, "merges");
    LB_GO(lb_tokenizer_create(v.tokenizer, v.settings, v.where, &v.opened, err));
    LB_GO(lb_tokenizer_check_rows(v.opened, rows, v.where, err));
    LB_GO(list_tokens(&v, err));
    if (has_byte_level(json_object_get(v.tokenizer, "pre_tokenizer"))) {
        const char *pre = lb_tokenizer_gguf_pre(v.tokenizer);
        st = pre ? put_byte_level(&v, pre, keys, err)
                 : refuse(&v, "a pre-tokenizer that none of GGUF's names stands for", err);
    } else {
        st = put_pieces(&v, keys, err);
    }
    if (st == LB_OK)
        put_common(&v, keys);
done:
    lb_tokenizer_destroy(v.opened);
    lb_free(v.pieces);
    lb_free(v.names);
    return st;
}
