/* SPDX-License-Identifier: MIT
 *
 * Every pre-tokenizer is a few primitive steps in a row. The meaning of each follows Hugging Face's
 * tokenizers library, with which the tests compare. */
#include "io/pretokenize.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/normalize.h"
#include "io/utf8.h"

enum { MAX_STEPS = 64, STEPS_PER_KIND = 3, MAX_NESTING = 8, MAX_TEXT_BYTES = INT32_MAX };

/* The pattern of GPT-2, which is also what ByteLevel uses. */
static const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef enum step_kind { STEP_SPLIT, STEP_PREFIX_SPACE, STEP_BYTES, STEP_METASPACE } step_kind;
typedef enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } behavior;
typedef enum prepend_scheme { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend_scheme;

typedef struct step {
    step_kind kind;
    lb_pattern *pattern;
    behavior action;
    bool invert;
    char marker[8]; /* of Metaspace: one character */
    prepend_scheme scheme;
} step;

struct lb_pretokenizer {
    step steps[MAX_STEPS];
    size_t count;
};

uint32_t lb_byte_alphabet(uint8_t byte)
{
    /* Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 onwards. */
    if ((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    return byte == 0xAD ? 0x143u : 0x121u + (byte - 0x7Fu);
}

int lb_byte_from_alphabet(uint32_t code)
{
    if (code >= 0x100 && code <= 0x143)
        return code <= 0x120 ? (int)(code - 0x100) : code == 0x143 ? 0xAD : (int)(code - 0x121 + 0x7F);
    return code <= 0xFF && lb_byte_alphabet((uint8_t)code) == code ? (int)code : -1;
}

/* ---- reading the specification ---- */

/* There is room: add() has looked. */
static step *new_step(lb_pretokenizer *pretokenizer, step_kind kind)
{
    step *next = &pretokenizer->steps[pretokenizer->count++];
    next->kind = kind;
    next->action = ISOLATED;
    return next;
}

static lb_status add_byte_level(lb_pretokenizer *pretokenizer, const json_t *spec, const char *where,
                                lb_error *err)
{
    bool prefix, regex;
    LB_TRY(lb_json_bool(spec, "add_prefix_space", true, where, &prefix, err));
    LB_TRY(lb_json_bool(spec, "use_regex", true, where, &regex, err));
    if (prefix)
        new_step(pretokenizer, STEP_PREFIX_SPACE);
    if (regex) {
        step *split = new_step(pretokenizer, STEP_SPLIT);
        LB_TRY(lb_pattern_regex(GPT2_PATTERN, sizeof GPT2_PATTERN - 1, where, &split->pattern, err));
    }
    new_step(pretokenizer, STEP_BYTES);
    return LB_OK;
}

static lb_status add_split(lb_pretokenizer *pretokenizer, const json_t *spec, const char *where,
                           lb_error *err)
{
    static const char *const behaviors[] = {[REMOVED] = "Removed",
                                            [ISOLATED] = "Isolated",
                                            [MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                            [MERGED_WITH_NEXT] = "MergedWithNext",
                                            [CONTIGUOUS] = "Contiguous"};
    const char *name;
    step *next = new_step(pretokenizer, STEP_SPLIT);
    LB_TRY(lb_json_bool(spec, "invert", false, where, &next->invert, err));
    LB_TRY(lb_json_string(spec, "behavior", "", where, &name, err));
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++)
        if (strcmp(name, behaviors[i]) == 0) {
            next->action = (behavior)i;
            return lb_pattern_from_json(json_object_get(spec, "pattern"), where, &next->pattern, err);
        }
    return lb_fail(err, LB_EFORMAT,
                   "%s: a Split with the behavior \"%s\", wanted Removed, Isolated, "
                   "MergedWithPrevious, MergedWithNext or Contiguous",
                   where, name);
}

static lb_status add_digits(lb_pretokenizer *pretokenizer, const json_t *spec, const char *where,
                            lb_error *err)
{
    bool individual;
    LB_TRY(lb_json_bool(spec, "individual_digits", false, where, &individual, err));
    step *next = new_step(pretokenizer, STEP_SPLIT);
    next->action = individual ? ISOLATED : CONTIGUOUS;
    return lb_pattern_digit(&next->pattern, err);
}

static lb_status add_metaspace(lb_pretokenizer *pretokenizer, const json_t *spec, const char *where,
                               lb_error *err)
{
    const char *marker, *scheme;
    bool split, old_prefix;
    LB_TRY(lb_json_string(spec, "replacement", "\xE2\x96\x81", where, &marker, err));
    LB_TRY(lb_json_bool(spec, "split", true, where, &split, err));
    LB_TRY(lb_json_bool(spec, "add_prefix_space", true, where, &old_prefix, err)); /* before prepend_scheme */
    LB_TRY(lb_json_string(spec, "prepend_scheme", old_prefix ? "always" : "never", where, &scheme, err));
    if (!*marker || strlen(marker) != lb_utf8_length(marker))
        return lb_fail(err, LB_EFORMAT, "%s: Metaspace's \"replacement\" is not one character", where);
    step *next = new_step(pretokenizer, STEP_METASPACE);
    memcpy(next->marker, marker, strlen(marker) + 1);
    if (strcmp(scheme, "always") == 0)
        next->scheme = PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        next->scheme = PREPEND_FIRST;
    else if (strcmp(scheme, "never") != 0)
        return lb_fail(err, LB_EFORMAT,
                       "%s: Metaspace's \"prepend_scheme\" is \"%s\", wanted always, first or "
                       "never",
                       where, scheme);
    if (!split)
        return LB_OK;
    next = new_step(pretokenizer, STEP_SPLIT);
    next->action = MERGED_WITH_NEXT;
    return lb_pattern_literal(marker, strlen(marker), &next->pattern, err);
}

static lb_status add(lb_pretokenizer *pretokenizer, const json_t *spec, unsigned depth, const char *where,
                     lb_error *err)
{
    if (!spec || json_is_null(spec))
        return LB_OK;
    const char *type;
    LB_TRY(lb_json_string(spec, "type", NULL, where, &type, err));
    if (!type || depth > MAX_NESTING)
        return lb_fail(err, LB_EFORMAT, "%s: a pre-tokenizer %s", where,
                       type ? "nested too deeply" : "without a \"type\"");
    if (pretokenizer->count + STEPS_PER_KIND > MAX_STEPS)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: more than %d pre-tokenizer steps", where,
                       MAX_STEPS - STEPS_PER_KIND);
    if (strcmp(type, "ByteLevel") == 0)
        return add_byte_level(pretokenizer, spec, where, err);
    if (strcmp(type, "Split") == 0)
        return add_split(pretokenizer, spec, where, err);
    if (strcmp(type, "Digits") == 0)
        return add_digits(pretokenizer, spec, where, err);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(pretokenizer, spec, where, err);
    if (strcmp(type, "Sequence") != 0)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: the pre-tokenizer \"%s\" is not supported; known are ByteLevel, Split, Digits, "
                       "Metaspace and Sequence",
                       where, type);
    const json_t *list = json_object_get(spec, "pretokenizers");
    if (!json_is_array(list))
        return lb_fail(err, LB_EFORMAT, "%s: a pre-tokenizer Sequence without a list \"pretokenizers\"",
                       where);
    for (size_t i = 0; i < json_array_size(list); i++)
        LB_TRY(add(pretokenizer, json_array_get(list, i), depth + 1, where, err));
    return LB_OK;
}

lb_status lb_pretokenizer_create(const json_t *spec, const char *where, lb_pretokenizer **out, lb_error *err)
{
    lb_pretokenizer *pretokenizer = lb_alloc_zero(1, sizeof *pretokenizer);
    if (!pretokenizer)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a pre-tokenizer", where);
    lb_status st = add(pretokenizer, spec, 0, where, err);
    if (st == LB_OK)
        *out = pretokenizer;
    else
        lb_pretokenizer_destroy(pretokenizer);
    return st;
}

void lb_pretokenizer_destroy(lb_pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (size_t i = 0; i < pretokenizer->count; i++)
        lb_pattern_free(pretokenizer->steps[i].pattern);
    lb_free(pretokenizer);
}

bool lb_pretokenizer_is_byte_level(const lb_pretokenizer *pretokenizer)
{
    for (size_t i = 0; i < pretokenizer->count; i++)
        if (pretokenizer->steps[i].kind == STEP_BYTES)
            return true;
    return false;
}

const char *lb_pretokenizer_metaspace(const lb_pretokenizer *pretokenizer, bool *prepends)
{
    for (size_t i = 0; i < pretokenizer->count; i++)
        if (pretokenizer->steps[i].kind == STEP_METASPACE) {
            *prepends = pretokenizer->steps[i].scheme != PREPEND_NEVER;
            return pretokenizer->steps[i].marker;
        }
    return NULL;
}

/* ---- cutting ---- */

void lb_words_free(lb_words *words)
{
    lb_text_free(&words->text);
    lb_text_free(&words->spare);
    lb_free(words->words);
    lb_free(words->spare_words);
    *words = (lb_words){0};
}

static lb_status push(lb_words *out, size_t begin, size_t length, lb_error *err)
{
    if (out->count == out->capacity) {
        size_t capacity = out->capacity < 64 ? 64 : 2 * out->capacity;
        lb_word *bigger = lb_grow(out->words, out->count, capacity, sizeof *bigger);
        if (!bigger)
            return lb_fail(err, LB_ENOMEM, "no memory for %zu words", capacity);
        out->words = bigger;
        out->capacity = capacity;
    }
    out->words[out->count++] = (lb_word){(uint32_t)begin, (uint32_t)length};
    return LB_OK;
}

/* Moves the words found so far aside; the next step makes new ones out of them. */
static size_t take_words(lb_words *words, const lb_word **taken)
{
    size_t count = words->count, capacity = words->capacity;
    lb_word *list = words->words;
    words->words = words->spare_words;
    words->capacity = words->spare_capacity;
    words->spare_words = list;
    words->spare_capacity = capacity;
    words->count = 0;
    *taken = list;
    return count;
}

/* One stretch of the word being cut: a match, or what lies between two matches. */
typedef struct cutter {
    const step *how;
    lb_words *out;
    size_t base; /* where the word begins in the text */
    bool previous; /* whether the stretch before was a match (after inversion) */
    bool has_previous; /* whether this word has given a piece yet */
} cutter;

static lb_status put_stretch(cutter *cut, size_t begin, size_t end, bool is_match, lb_error *err)
{
    bool previous = cut->previous, joins = false;
    is_match = is_match != cut->how->invert;
    cut->previous = is_match;
    switch (cut->how->action) {
    case REMOVED:
        if (is_match)
            return LB_OK;
        break;
    case ISOLATED:
        break;
    case CONTIGUOUS:
        joins = is_match == previous;
        break;
    case MERGED_WITH_PREVIOUS:
        joins = is_match && !previous;
        break;
    case MERGED_WITH_NEXT:
        joins = !is_match && previous;
        break;
    }
    if (joins && cut->has_previous) {
        lb_word *last = &cut->out->words[cut->out->count - 1];
        last->length = (uint32_t)(cut->base + end - last->begin);
        return LB_OK;
    }
    cut->has_previous = true;
    return push(cut->out, cut->base + begin, end - begin, err);
}

static lb_status cut_word(const step *how, lb_searcher *searcher, lb_word word, lb_words *out, lb_error *err)
{
    cutter cut = {.how = how, .out = out, .base = word.begin};
    const char *text = out->text.data + word.begin;
    size_t done = 0, from = 0, last_end = SIZE_MAX;
    while (from <= word.length) {
        size_t begin, end;
        LB_TRY(lb_pattern_next(how->pattern, searcher, text, word.length, from, &begin, &end, err));
        if (begin == SIZE_MAX)
            break;
        if (end > begin || begin != last_end) { /* an empty match right after a match is none */
            if (begin > done)
                LB_TRY(put_stretch(&cut, done, begin, false, err));
            LB_TRY(put_stretch(&cut, begin, end, true, err));
            done = last_end = end;
        }
        from = end > begin           ? end
               : begin < word.length ? begin + lb_utf8_length(text + begin)
                                     : word.length + 1;
    }
    if (done < word.length)
        LB_TRY(put_stretch(&cut, done, word.length, false, err));
    return LB_OK;
}

static lb_status run_split(const step *how, lb_searcher *searcher, lb_words *words, lb_error *err)
{
    const lb_word *taken;
    size_t count = take_words(words, &taken);
    for (size_t i = 0; i < count; i++)
        if (taken[i].length > 0)
            LB_TRY(cut_word(how, searcher, taken[i], words, err));
    return LB_OK;
}

static void spell_bytes(const char *text, size_t length, lb_text *out)
{
    char block[512];
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (used + 4 > sizeof block) {
            lb_text_add(out, block, used);
            used = 0;
        }
        used += lb_utf8_put(lb_byte_alphabet((uint8_t)text[i]), block + used);
    }
    lb_text_add(out, block, used);
}

static void mark_spaces(const step *how, const char *text, size_t length, bool at_start, lb_text *out)
{
    size_t marker = strlen(how->marker);
    bool marked = length >= marker && memcmp(text, how->marker, marker) == 0;
    bool prepends = how->scheme == PREPEND_ALWAYS || (how->scheme == PREPEND_FIRST && at_start);
    if (length > 0 && prepends && !marked && text[0] != ' ')
        lb_text_add(out, how->marker, marker);
    while (length > 0) {
        const char *space = memchr(text, ' ', length);
        size_t plain = space ? (size_t)(space - text) : length;
        lb_text_add(out, text, plain);
        if (space)
            lb_text_add(out, how->marker, marker);
        text += plain + (space != NULL);
        length -= plain + (space != NULL);
    }
}

/* A step that changes each word's text and leaves the cuts where they are. */
static lb_status run_rewrite(const step *how, bool at_start, lb_words *words, lb_error *err)
{
    lb_text *out = &words->spare;
    out->length = 0;
    for (size_t i = 0; i < words->count; i++) {
        lb_word *word = &words->words[i];
        const char *text = words->text.data + word->begin;
        size_t begin = out->length;
        if (how->kind == STEP_METASPACE)
            mark_spaces(how, text, word->length, at_start && word->begin == 0, out);
        else if (how->kind == STEP_BYTES)
            spell_bytes(text, word->length, out);
        else {
            if (word->length > 0 && text[0] != ' ')
                lb_text_add(out, " ", 1);
            lb_text_add(out, text, word->length);
        }
        *word = (lb_word){(uint32_t)begin, (uint32_t)(out->length - begin)};
        if (out->length > MAX_TEXT_BYTES)
            return lb_fail(err, LB_EINVAL, "a text grows beyond %d bytes on its way to the tokenizer",
                           MAX_TEXT_BYTES);
    }
    lb_text_add(out, "", 0);
    if (out->failed)
        return lb_fail(err, LB_ENOMEM, "no memory to tokenize a text");
    lb_text swap = words->text;
    words->text = *out;
    *out = swap;
    return LB_OK;
}

lb_status lb_pretokenizer_run(const lb_pretokenizer *pretokenizer, lb_searcher *searcher, const char *text,
                              size_t length, bool at_start, lb_words *out, lb_error *err)
{
    out->count = 0;
    out->text.length = 0;
    lb_text_add(&out->text, text, length);
    if (out->text.failed)
        return lb_fail(err, LB_ENOMEM, "no memory to tokenize a text of %zu bytes", length);
    LB_TRY(push(out, 0, length, err));
    for (size_t i = 0; i < pretokenizer->count; i++) {
        const step *how = &pretokenizer->steps[i];
        LB_TRY(how->kind == STEP_SPLIT ? run_split(how, searcher, out, err)
                                       : run_rewrite(how, at_start, out, err));
    }
    return LB_OK;
}
