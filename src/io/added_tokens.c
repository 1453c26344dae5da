/* SPDX-License-Identifier: MIT
 *
 * The search is leftmost-longest over a trie. Which spaces a token swallows (lstrip, rstrip) and when
 * a match inside a word counts (single_word) follow Hugging Face's tokenizers library. */
#include "io/added_tokens.h"

#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/utf8.h"

/* A longer token would make the search slow; real ones have at most a few dozen bytes. */
enum { MAX_TOKEN_BYTES = 512, TOKEN_ENDS = 256 };

static lb_status trie_add(lb_trie *trie, const char *text, size_t length, size_t index, lb_error *err)
{
    uint32_t node = 0;
    if (length == 0)
        return LB_OK;
    trie->first[(uint8_t)text[0]] = true;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        const lb_pair_entry *edge = lb_pair_map_find(&trie->edges, node, byte);
        if (edge) {
            node = edge->id;
            continue;
        }
        LB_TRY(lb_pair_map_set(&trie->edges, node, byte, 0, ++trie->nodes, err));
        node = trie->nodes;
    }
    if (!lb_pair_map_find(&trie->edges, node, TOKEN_ENDS))
        return lb_pair_map_set(&trie->edges, node, TOKEN_ENDS, 0, (uint32_t)index, err);
    return LB_OK;
}

static lb_status read_token(const json_t *spec, const lb_bpe *bpe, const char *where, lb_added_token *token,
                            lb_error *err)
{
    const json_t *content = json_object_get(spec, "content");
    size_t id;
    if (!json_is_string(content) || json_string_length(content) > MAX_TOKEN_BYTES)
        return lb_fail(err, LB_EFORMAT, "%s: an added token without a \"content\" of at most %d bytes", where,
                       MAX_TOKEN_BYTES);
    LB_TRY(lb_json_size(spec, "id", 0, LB_VOCAB_MAX - 1, SIZE_MAX, where, &id, err));
    if (id == SIZE_MAX)
        return lb_fail(err, LB_EFORMAT, "%s: the added token \"%.60s\" has no id", where,
                       json_string_value(content));
    LB_TRY(lb_json_bool(spec, "special", false, where, &token->special, err));
    LB_TRY(lb_json_bool(spec, "single_word", false, where, &token->single_word, err));
    LB_TRY(lb_json_bool(spec, "lstrip", false, where, &token->lstrip, err));
    LB_TRY(lb_json_bool(spec, "rstrip", false, where, &token->rstrip, err));
    LB_TRY(lb_json_bool(spec, "normalized", !token->special, where, &token->normalized, err));
    token->id = (uint32_t)id;
    token->length = json_string_length(content);
    uint32_t known = lb_bpe_id(bpe, json_string_value(content), token->length);
    if (known != LB_NO_ID && known != token->id)
        return lb_fail(err, LB_EFORMAT, "%s: the added token \"%.60s\" has id %zu, but %u in the vocabulary",
                       where, json_string_value(content), id, (unsigned)known);
    if (known == LB_NO_ID && id < bpe->vocab_size && bpe->texts[id].data)
        return lb_fail(err, LB_EFORMAT, "%s: the added token \"%.60s\" has id %zu, which is \"%.60s\"", where,
                       json_string_value(content), id, bpe->texts[id].data);
    token->content = lb_strndup(json_string_value(content), token->length);
    return token->content ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for added tokens", where);
}

static lb_status index_tokens(lb_added_tokens *added, const lb_normalizer *normalizer, lb_error *err)
{
    lb_searcher *searcher = NULL;
    lb_text content = {0};
    lb_status st;
    LB_GO(lb_searcher_create(added->count * MAX_TOKEN_BYTES, &searcher, err));
    for (size_t i = 0; i < added->count; i++) {
        const lb_added_token *token = &added->tokens[i];
        if (!token->normalized) {
            LB_GO(trie_add(&added->raw, token->content, token->length, i, err));
            continue;
        }
        LB_GO(lb_normalizer_run(normalizer, searcher, token->content, token->length, &content, err));
        LB_GO(trie_add(&added->normalized, content.data, content.length, i, err));
    }
done:
    lb_searcher_destroy(searcher);
    lb_text_free(&content);
    return st;
}

/* Two added tokens with one id, or two ids for one string, would make the result ambiguous. */
static lb_status check_distinct(const lb_added_tokens *added, const char *where, lb_error *err)
{
    lb_pair_map ids = {0};
    lb_status st = lb_pair_map_init(&ids, added->count, err);
    for (size_t i = 0; i < added->count && st == LB_OK; i++) {
        const lb_added_token *token = &added->tokens[i];
        const lb_pair_entry *other = lb_pair_map_find(&ids, token->id, 0);
        if (other && strcmp(added->tokens[other->id].content, token->content) != 0)
            st = lb_fail(err, LB_EFORMAT, "%s: the added tokens \"%.60s\" and \"%.60s\" share the id %u",
                         where, added->tokens[other->id].content, token->content, (unsigned)token->id);
        else
            st = lb_pair_map_set(&ids, token->id, 0, 0, (uint32_t)i, err);
    }
    lb_pair_map_free(&ids);
    return st;
}

lb_status lb_added_tokens_read(const json_t *list, const lb_bpe *bpe, const lb_normalizer *normalizer,
                               const char *where, lb_added_tokens *out, lb_error *err)
{
    if (list && !json_is_null(list) && !json_is_array(list))
        return lb_fail(err, LB_EFORMAT, "%s: its \"added_tokens\" are not a list", where);
    size_t count = json_array_size(list);
    if (count > LB_VOCAB_MAX)
        return lb_fail(err, LB_EFORMAT, "%s: %zu added tokens, more than %d", where, count, LB_VOCAB_MAX);
    LB_TRY(lb_pair_map_init(&out->raw.edges, 64, err));
    LB_TRY(lb_pair_map_init(&out->normalized.edges, 64, err));
    out->tokens = lb_alloc_zero(count, sizeof *out->tokens);
    if (!out->tokens)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for %zu added tokens", where, count);
    for (size_t i = 0; i < count; i++) {
        out->count++;
        LB_TRY(read_token(json_array_get(list, i), bpe, where, &out->tokens[i], err));
        if (out->tokens[i].id >= out->id_end)
            out->id_end = (size_t)out->tokens[i].id + 1;
    }
    LB_TRY(check_distinct(out, where, err));
    return index_tokens(out, normalizer, err);
}

void lb_added_tokens_free(lb_added_tokens *added)
{
    for (size_t i = 0; i < added->count; i++)
        lb_free(added->tokens[i].content);
    lb_free(added->tokens);
    lb_pair_map_free(&added->raw.edges);
    lb_pair_map_free(&added->normalized.edges);
    *added = (lb_added_tokens){0};
}

const lb_added_token *lb_added_token_by_name(const lb_added_tokens *added, const char *name, size_t length)
{
    for (size_t i = 0; i < added->count; i++)
        if (added->tokens[i].length == length && memcmp(added->tokens[i].content, name, length) == 0)
            return &added->tokens[i];
    return NULL;
}

/* ---- searching ---- */

static const lb_added_token *find(const lb_added_scan *scan, size_t from, size_t *begin, size_t *end)
{
    for (size_t i = from; i < scan->length; i++) {
        if (!scan->trie->first[(uint8_t)scan->text[i]])
            continue;
        const lb_added_token *longest = NULL;
        uint32_t node = 0;
        for (size_t j = i; j < scan->length; j++) {
            const lb_pair_entry *edge = lb_pair_map_find(&scan->trie->edges, node, (uint8_t)scan->text[j]);
            if (!edge)
                break;
            node = edge->id;
            const lb_pair_entry *ends = lb_pair_map_find(&scan->trie->edges, node, TOKEN_ENDS);
            if (ends) {
                longest = &scan->added->tokens[ends->id];
                *begin = i;
                *end = j + 1;
            }
        }
        if (longest)
            return longest;
    }
    return NULL;
}

/* What a regular expression calls \w: letters, marks, digits, connectors. */
static bool is_word(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}

static bool touches_word(const lb_added_scan *scan, size_t begin, size_t end)
{
    uint32_t code = 0;
    size_t used;
    if (end < scan->length) {
        (void)lb_utf8_next(scan->text + end, scan->length - end, &code, &used);
        if (is_word(code))
            return true;
    }
    if (begin == 0)
        return false;
    do
        begin--;
    while (((unsigned char)scan->text[begin] & 0xC0) == 0x80);
    (void)lb_utf8_next(scan->text + begin, scan->length - begin, &code, &used);
    return is_word(code);
}

static size_t spaces_before(const lb_added_scan *scan, size_t at, size_t floor)
{
    while (at > floor) {
        size_t last = at - 1, used;
        uint32_t code = 0;
        while (last > 0 && ((unsigned char)scan->text[last] & 0xC0) == 0x80)
            last--;
        (void)lb_utf8_next(scan->text + last, scan->length - last, &code, &used);
        if (!lb_is_space(code) || last < floor)
            break;
        at = last;
    }
    return at;
}

/* Remembers where a run of spaces ends, so that tokens inside one long run do not each walk it. */
static size_t spaces_after(lb_added_scan *scan, size_t at)
{
    if (at < scan->space_end)
        return scan->space_end;
    while (at < scan->length) {
        uint32_t code = 0;
        size_t used;
        (void)lb_utf8_next(scan->text + at, scan->length - at, &code, &used);
        if (!lb_is_space(code))
            break;
        at += used;
    }
    scan->space_end = at;
    return at;
}

bool lb_added_next(lb_added_scan *scan, lb_stretch *out)
{
    if (scan->has_waiting) {
        scan->has_waiting = false;
        *out = scan->waiting;
        return true;
    }
    size_t begin = 0, end = 0;
    const lb_added_token *token;
    while ((token = find(scan, scan->searched, &begin, &end)) != NULL) {
        scan->searched = end;
        if ((scan->plain && token->special) || (token->single_word && touches_word(scan, begin, end)))
            continue;
        if (token->lstrip && begin > scan->done)
            begin = spaces_before(scan, begin, scan->done);
        if (token->rstrip)
            end = spaces_after(scan, end);
        lb_stretch found = {token, begin, end}, between = {NULL, scan->done, begin};
        scan->waiting = found;
        scan->has_waiting = between.begin < between.end;
        *out = scan->has_waiting ? between : found;
        scan->done = end;
        return true;
    }
    scan->searched = scan->length;
    *out = (lb_stretch){NULL, scan->done, scan->length};
    scan->done = scan->length;
    return out->begin < out->end;
}
