/* SPDX-License-Identifier: MIT
 *
 * The "tokenizer.ggml.*" metadata of a GGUF file as tokenizer.json and tokenizer_config.json. Byte-level
 * models name their pre-tokenizer by a short name; what each name stands for is in the table below. */
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "io/tokenizer.h"
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_pieces.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define AFTER_NUMBERS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_PATTERN CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" AFTER_NUMBERS
#define QWEN2_PATTERN CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" AFTER_NUMBERS

enum { MAX_NAMES = 8, MAX_PATTERNS = 4 };

/* How a byte-level tokenizer cuts a text: Split patterns one after the other, then bytes. */
typedef struct pre_kind {
    const char *names[MAX_NAMES];
    const char *patterns[MAX_PATTERNS];
    bool digits; /* every digit alone, first of all */
    bool gpt2_pattern; /* ByteLevel's own pattern, last of all */
    bool ignore_merges; /* a word that is a token is not cut further */
    bool nfc;
    bool adds_bos; /* where the file does not say */
} pre_kind;

static const pre_kind PRE_KINDS[] = {
    {.names = {"gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jina-es", "jina-de"}, .gpt2_pattern = true},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3"},
     .patterns = {LLAMA3_PATTERN},
     .ignore_merges = true,
     .adds_bos = true},
    {.names = {"dbrx", "smaug-bpe"}, .patterns = {LLAMA3_PATTERN}},
    {.names = {"qwen2", "deepseek-r1-qwen", "megrez"}, .patterns = {QWEN2_PATTERN}, .nfc = true},
    {.names = {"stablelm2"}, .patterns = {QWEN2_PATTERN}},
    {.names = {"smollm", "starcoder", "refact", "codeshell"}, .digits = true, .gpt2_pattern = true},
    {.names = {"default"},
     .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+",
                  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)", "\\p{N}+",
                  "[0-9][0-9][0-9]"}},
};

enum { PRE_KIND_COUNT = sizeof PRE_KINDS / sizeof *PRE_KINDS };

typedef struct source {
    const lb_gguf *gguf;
    const char *where;
    lb_piece *pieces;
    size_t count;
    size_t bos, eos, unk; /* SIZE_MAX where the file names none */
} source;

static bool span_is(lb_span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.data, text, span.length) == 0;
}

static lb_status no_memory(const source *from, lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "%s: no memory to convert its tokenizer", from->where);
}

/* ---- reading ---- */

/* *out is NULL when there is no such key. */
static lb_status read_numbers(const source *from, const char *key, double **out, lb_error *err)
{
    size_t count;
    *out = NULL;
    LB_TRY(lb_gguf_doubles(from->gguf, key, out, &count, err));
    if (count == from->count)
        return LB_OK;
    lb_free(*out);
    *out = NULL;
    if (count == 0)
        return LB_OK;
    return lb_fail(err, LB_EFORMAT, "%s: %s has %zu entries for %zu tokens", from->where, key, count,
                   from->count);
}

static lb_status read_types(source *from, lb_error *err)
{
    double *types;
    LB_TRY(read_numbers(from, "tokenizer.ggml.token_type", &types, err));
    lb_status st = LB_OK;
    for (size_t i = 0; i < from->count && st == LB_OK; i++) {
        double type = types ? types[i] : LB_PIECE_NORMAL;
        if (!(type >= LB_PIECE_NORMAL && type <= LB_PIECE_BYTE))
            st = lb_fail(err, LB_EFORMAT, "%s: token %zu has the type %g, wanted 1 to 6", from->where, i,
                         type);
        else
            from->pieces[i].type = (lb_piece_type)type;
    }
    if (!types) { /* old files: the special ids are all there is to know */
        const size_t special[] = {from->bos, from->eos};
        for (size_t i = 0; i < 2; i++)
            if (special[i] < from->count)
                from->pieces[special[i]].type = LB_PIECE_CONTROL;
        if (from->unk < from->count)
            from->pieces[from->unk].type = LB_PIECE_UNKNOWN;
    }
    lb_free(types);
    return st;
}

static lb_status read_tokens(source *from, lb_error *err)
{
    lb_span *texts;
    LB_TRY(lb_gguf_strings(from->gguf, "tokenizer.ggml.tokens", &texts, &from->count, err));
    if (from->count == 0 || from->count > LB_VOCAB_MAX) {
        lb_free(texts);
        return lb_fail(err, LB_EFORMAT, "%s: tokenizer.ggml.tokens has %zu entries, wanted 1 to %d",
                       from->where, from->count, LB_VOCAB_MAX);
    }
    from->pieces = lb_alloc_zero(from->count, sizeof *from->pieces);
    if (from->pieces)
        for (size_t i = 0; i < from->count; i++)
            from->pieces[i].text = texts[i];
    lb_free(texts);
    return from->pieces ? LB_OK : no_memory(from, err);
}

static lb_status read_source(source *from, lb_error *err)
{
    const struct {
        const char *key;
        size_t *id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", &from->bos},
               {"tokenizer.ggml.eos_token_id", &from->eos},
               {"tokenizer.ggml.unknown_token_id", &from->unk}};
    LB_TRY(read_tokens(from, err));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        LB_TRY(lb_gguf_size(from->gguf, ids[i].key, 0, UINT32_MAX, SIZE_MAX, ids[i].id, err));
        if (*ids[i].id == UINT32_MAX) /* some writers spell "none" this way */
            *ids[i].id = SIZE_MAX;
        if (*ids[i].id != SIZE_MAX && *ids[i].id >= from->count)
            return lb_fail(err, LB_EFORMAT, "%s: %s is %zu, but there are %zu tokens", from->where,
                           ids[i].key, *ids[i].id, from->count);
    }
    return read_types(from, err);
}

/* A NUL-terminated copy of a token's text, NULL for SIZE_MAX. Tokens hold no NUL: the vocabulary was made. */
static lb_status token_name(const source *from, size_t id, char **out, lb_error *err)
{
    *out = NULL;
    if (id >= from->count)
        return LB_OK;
    *out = lb_strndup(from->pieces[id].text.data, from->pieces[id].text.length);
    return *out ? LB_OK : no_memory(from, err);
}

/* ---- byte-level models ---- */

static lb_status find_pre(const source *from, const pre_kind **out, lb_error *err)
{
    lb_span name;
    LB_TRY(lb_gguf_string(from->gguf, "tokenizer.ggml.pre", (lb_span){"default", 7}, &name, err));
    lb_text known = {0};
    for (size_t k = 0; k < PRE_KIND_COUNT; k++)
        for (size_t i = 0; i < MAX_NAMES && PRE_KINDS[k].names[i]; i++) {
            if (span_is(name, PRE_KINDS[k].names[i])) {
                *out = &PRE_KINDS[k];
                lb_text_free(&known);
                return LB_OK;
            }
            lb_text_add_format(&known, "%s%s", known.length ? ", " : "", PRE_KINDS[k].names[i]);
        }
    lb_status st = lb_fail(
        err, LB_EUNSUPPORTED, "%s: the pre-tokenizer \"%.*s\" is not supported; known are %s", from->where,
        name.length > 60 ? 60 : (int)name.length, name.data, known.data ? known.data : "none");
    lb_text_free(&known);
    return st;
}

static json_t *byte_level(bool use_regex)
{
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0,
                     "use_regex", (int)use_regex);
}

static json_t *make_pre_tokenizer(const pre_kind *pre)
{
    json_t *steps = json_array();
    if (pre->digits)
        json_array_append_new(steps, json_pack("{s:s,s:b}", "type", "Digits", "individual_digits", 1));
    for (size_t i = 0; i < MAX_PATTERNS && pre->patterns[i]; i++)
        json_array_append_new(steps, json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
                                               pre->patterns[i], "behavior", "Isolated", "invert", 0));
    json_array_append_new(steps, byte_level(pre->gpt2_pattern));
    return json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", steps);
}

/* What a tokenizer.json's pre-tokenizer does, as far as it is made of the steps that the table has. */
typedef struct pre_found {
    const char *patterns[MAX_PATTERNS];
    size_t count;
    bool digits, gpt2_pattern, byte_level;
} pre_found;

/* False: a step that no kind of the table has. */
static bool note_step(const json_t *step, pre_found *found)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    const json_t *pattern = json_object_get(step, "pattern"), *steps = json_object_get(step, "pretokenizers");
    size_t i;
    const json_t *inner;
    if (!type || found->byte_level)
        return false;
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(steps, i, inner)
        {
            if (!note_step(inner, found))
                return false;
        }
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        const json_t *use_regex = json_object_get(step, "use_regex");
        found->byte_level = true;
        found->gpt2_pattern = !use_regex || json_is_true(use_regex);
        return !json_is_true(json_object_get(step, "add_prefix_space"));
    }
    if (strcmp(type, "Digits") == 0) {
        found->digits = json_is_true(json_object_get(step, "individual_digits")) && found->count == 0;
        return found->digits;
    }
    const char *text = json_string_value(json_object_get(pattern, "Regex"));
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    if (strcmp(type, "Split") != 0 || !text || !behavior || strcmp(behavior, "Isolated") != 0 ||
        json_is_true(json_object_get(step, "invert")) || found->count == MAX_PATTERNS)
        return false;
    found->patterns[found->count++] = text;
    return true;
}

static bool is_kind(const pre_kind *kind, const pre_found *found, bool nfc, bool ignore_merges)
{
    size_t i = 0;
    for (; i < found->count; i++) {
        if (!kind->patterns[i] || strcmp(kind->patterns[i], found->patterns[i]) != 0)
            return false;
    }
    return (i == MAX_PATTERNS || !kind->patterns[i]) && kind->digits == found->digits &&
           kind->gpt2_pattern == found->gpt2_pattern && kind->nfc == nfc && kind->ignore_merges == ignore_merges;
}

const char *lb_tokenizer_gguf_pre(const json_t *tokenizer)
{
    const json_t *normalizer = json_object_get(tokenizer, "normalizer");
    const char *form = json_string_value(json_object_get(normalizer, "type"));
    const bool nfc = form && strcmp(form, "NFC") == 0;
    const bool ignore_merges =
        json_is_true(json_object_get(json_object_get(tokenizer, "model"), "ignore_merges"));
    pre_found found = {0};
    if (!note_step(json_object_get(tokenizer, "pre_tokenizer"), &found) || !found.byte_level ||
        (normalizer && !json_is_null(normalizer) && !nfc))
        return NULL;
    for (size_t k = 0; k < PRE_KIND_COUNT; k++) {
        if (is_kind(&PRE_KINDS[k], &found, nfc, ignore_merges))
            return PRE_KINDS[k].names[0];
    }
    return NULL;
}

static lb_status read_merges(const source *from, json_t **out, lb_error *err)
{
    lb_span *texts;
    size_t count;
    LB_TRY(lb_gguf_strings(from->gguf, "tokenizer.ggml.merges", &texts, &count, err));
    json_t *merges = json_array();
    lb_status st = merges ? LB_OK : no_memory(from, err);
    if (count > LB_MERGES_MAX)
        st = lb_fail(err, LB_EFORMAT, "%s: %zu merges, more than %d", from->where, count, LB_MERGES_MAX);
    for (size_t i = 0; i < count && st == LB_OK; i++)
        if (json_array_append_new(merges, json_stringn(texts[i].data, texts[i].length)) != 0)
            st = lb_fail(err, LB_EFORMAT, "%s: merge %zu is not valid UTF-8", from->where, i);
    lb_free(texts);
    if (st == LB_OK)
        *out = merges;
    else
        json_decref(merges);
    return st;
}

static lb_status convert_byte_level(const source *from, bool *adds_bos, json_t **tokenizer, lb_error *err)
{
    const pre_kind *pre = NULL;
    json_t *vocab = NULL, *merges = NULL, *added = NULL;
    char *bos = NULL;
    lb_status st;
    LB_GO(find_pre(from, &pre, err));
    LB_GO(lb_gguf_bool(from->gguf, "tokenizer.ggml.add_bos_token", pre->adds_bos && from->bos != SIZE_MAX,
                       adds_bos, err));
    LB_GO(lb_pieces_vocab(from->pieces, from->count, from->where, &vocab, err));
    LB_GO(lb_pieces_added(from->pieces, from->count, from->where, &added, err));
    LB_GO(read_merges(from, &merges, err));
    LB_GO(token_name(from, from->bos, &bos, err));
    json_t *model =
        json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:O,s:O}", "type", "BPE", "dropout", "unk_token",
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                  "ignore_merges", (int)pre->ignore_merges, "vocab", vocab, "merges", merges);
    st = lb_tokenizer_assemble(json_incref(added), pre->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(),
                               make_pre_tokenizer(pre),
                               *adds_bos && bos ? lb_bos_template(bos, from->bos) : byte_level(true),
                               byte_level(true), model, from->where, tokenizer, err);
done:
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    lb_free(bos);
    return st;
}

/* ---- SentencePiece models ---- */

static lb_status convert_pieces(source *from, bool *adds_bos, json_t **tokenizer, lb_error *err)
{
    double *scores;
    lb_piece_options options = {.unk = from->unk, .bos = from->bos};
    LB_TRY(read_numbers(from, "tokenizer.ggml.scores", &scores, err));
    if (!scores)
        return lb_fail(err, LB_EFORMAT, "%s: a SentencePiece tokenizer without tokenizer.ggml.scores",
                       from->where);
    for (size_t i = 0; i < from->count; i++)
        from->pieces[i].score = scores[i] == scores[i] ? scores[i] : 0.0; /* NaN has no order */
    lb_free(scores);
    LB_TRY(lb_gguf_bool(from->gguf, "tokenizer.ggml.add_space_prefix", true, &options.add_prefix, err));
    LB_TRY(lb_gguf_bool(from->gguf, "tokenizer.ggml.remove_extra_whitespaces", false, &options.squeeze, err));
    LB_TRY(lb_gguf_bool(from->gguf, "tokenizer.ggml.add_bos_token", from->bos != SIZE_MAX, adds_bos, err));
    options.add_bos = *adds_bos;
    return lb_tokenizer_from_pieces(from->pieces, from->count, &options, from->where, tokenizer, err);
}

/* ---- tokenizer_config.json ---- */

static lb_status make_config(const source *from, bool adds_bos, json_t **out, lb_error *err)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token"};
    const size_t ids[] = {from->bos, from->eos, from->unk};
    lb_span chat;
    LB_TRY(lb_gguf_string(from->gguf, "tokenizer.chat_template", (lb_span){NULL, 0}, &chat, err));
    json_t *config = json_pack("{s:s,s:b,s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "add_bos_token",
                               (int)adds_bos, "clean_up_tokenization_spaces", 0);
    bool failed = !config;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && config; i++)
        if (ids[i] < from->count)
            failed |= json_object_set_new(config, keys[i],
                                          json_stringn(from->pieces[ids[i]].text.data,
                                                       from->pieces[ids[i]].text.length)) != 0;
    if (config && chat.data && chat.length > 0) {
        json_t *text = json_stringn(chat.data, chat.length);
        if (!text) {
            json_decref(config);
            return lb_fail(err, LB_EFORMAT, "%s: tokenizer.chat_template is not valid UTF-8", from->where);
        }
        failed |= json_object_set_new(config, "chat_template", text) != 0;
    }
    if (failed) {
        json_decref(config);
        return no_memory(from, err);
    }
    *out = config;
    return LB_OK;
}

lb_status lb_tokenizer_from_gguf(const lb_gguf *gguf, const char *where, json_t **tokenizer,
                                 json_t **tokenizer_config, lb_error *err)
{
    source from = {.gguf = gguf, .where = where};
    lb_span kind;
    json_t *made = NULL, *config = NULL;
    bool adds_bos = false;
    lb_status st;
    if (!lb_gguf_has(gguf, "tokenizer.ggml.model")) {
        *tokenizer = *tokenizer_config = NULL;
        return LB_OK;
    }
    LB_GO(lb_gguf_string(gguf, "tokenizer.ggml.model", (lb_span){"", 0}, &kind, err));
    bool byte_level_kind = span_is(kind, "gpt2");
    if (!byte_level_kind && !span_is(kind, "llama")) {
        st = lb_fail(err, LB_EUNSUPPORTED,
                     "%s: a tokenizer of kind \"%.*s\" is not supported; known are gpt2 "
                     "(byte-level BPE) and llama (SentencePiece BPE)",
                     where, kind.length > 60 ? 60 : (int)kind.length, kind.data);
        goto done;
    }
    LB_GO(read_source(&from, err));
    LB_GO(byte_level_kind ? convert_byte_level(&from, &adds_bos, &made, err)
                          : convert_pieces(&from, &adds_bos, &made, err));
    LB_GO(make_config(&from, adds_bos, &config, err));
    *tokenizer = made;
    *tokenizer_config = config;
    made = NULL;
done:
    json_decref(made);
    lb_free(from.pieces);
    return st;
}
