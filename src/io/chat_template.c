/* SPDX-License-Identifier: MIT
 *
 * A template is Jinja: text with {{ expressions }} and {% statements %}. Its pieces of literal text
 * (outside the braces, and the quoted strings inside them) are enough to tell the families apart and
 * to read out what differs between members of a family. */
#include "io/chat_template.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"

#define DATES_OPENING "Cutting Knowledge Date:"

/* Walks over the literal pieces of a template. */
typedef struct piece_walk {
    const char *at;
    bool in_tag;
    lb_text piece; /* with \n, \t, \\ and quotes resolved */
} piece_walk;

static const char *read_quoted(const char *at, lb_text *out)
{
    char quote = *at++;
    for (; *at && *at != quote; at++) {
        char c = *at;
        if (c == '\\' && at[1]) {
            c = *++at;
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c;
        }
        lb_text_add(out, &c, 1);
    }
    return *at ? at + 1 : at;
}

/* False at the end of the template. */
static bool next_piece(piece_walk *walk)
{
    walk->piece.length = 0;
    lb_text_add(&walk->piece, "", 0);
    if (!*walk->at || walk->piece.failed)
        return false;
    if (!walk->in_tag) {
        const char *begin = walk->at;
        while (*walk->at && !(walk->at[0] == '{' && walk->at[1] && strchr("{%#", walk->at[1])))
            walk->at++;
        lb_text_add(&walk->piece, begin, (size_t)(walk->at - begin));
        if (walk->at[0] && walk->at[1] == '#') { /* a comment may hold lone apostrophes */
            const char *end = strstr(walk->at, "#}");
            walk->at = end ? end + 2 : walk->at + strlen(walk->at);
        } else
            walk->in_tag = true;
        return true;
    }
    while (*walk->at && *walk->at != '\'' && *walk->at != '"') {
        if (walk->at[0] && walk->at[1] == '}' && strchr("}%#", walk->at[0])) {
            walk->at += 2;
            walk->in_tag = false;
            return true; /* an empty piece */
        }
        walk->at++;
    }
    if (*walk->at)
        walk->at = read_quoted(walk->at, &walk->piece);
    return true;
}

/* The text that stands between `open` and `close` inside one piece, or after `open` to the piece's end
 * where close is NULL; NULL when no piece has it. The caller frees it. */
static char *find_in_pieces(const char *text, const char *open, const char *close, bool *no_memory)
{
    piece_walk walk = {.at = text};
    char *found = NULL;
    while (!found && next_piece(&walk)) {
        const char *begin = strstr(walk.piece.data, open);
        if (!begin)
            continue;
        begin += strlen(open);
        const char *end = close ? strstr(begin, close) : begin + strlen(begin);
        if (end) {
            found = lb_strndup(begin, (size_t)(end - begin));
            *no_memory |= !found;
        }
    }
    *no_memory |= walk.piece.failed;
    lb_text_free(&walk.piece);
    return found;
}

/* "content" (perhaps with a bracket) | trim, or .strip() */
static bool trims_content(const char *text)
{
    for (const char *at = text; (at = strstr(at, "content")) != NULL;) {
        at += strlen("content");
        const char *after = at + strspn(at, "'\"] ");
        if (strncmp(after, ".strip()", 8) == 0)
            return true;
        if (*after == '|' && strncmp(after + 1 + strspn(after + 1, " "), "trim", 4) == 0)
            return true;
    }
    return false;
}

/* Llama 3.1 and later begin every system turn with two dates. The second is the template's own fixed
 * one: the clock would make a prompt depend on the day. */
static void read_dates(const char *text, lb_chat_format *out, bool *no_memory)
{
    char *cutoff = find_in_pieces(text, DATES_OPENING, "\n", no_memory);
    const char *set = text, *quoted = NULL;
    while (!quoted && (set = strstr(set, "date_string =")) != NULL) {
        set += strlen("date_string =");
        set += strspn(set, " ");
        if (*set == '"' || *set == '\'')
            quoted = set;
    }
    lb_text date = {0}, preface = {0};
    if (cutoff && quoted) {
        read_quoted(quoted, &date);
        lb_text_add_format(&preface, DATES_OPENING "%s\nToday Date: %s\n\n", cutoff,
                           date.data ? date.data : "");
        out->system_preface = preface.failed ? NULL : lb_strdup(preface.data);
        out->default_system = lb_strdup("");
        *no_memory |= date.failed || !out->system_preface || !out->default_system;
    } else
        out->family = LB_CHAT_UNKNOWN;
    lb_free(cutoff);
    lb_text_free(&date);
    lb_text_free(&preface);
}

static lb_status read_text(const char *text, const char *where, lb_chat_format *out, lb_error *err)
{
    bool no_memory = false;
    const char *answer = NULL, *opening = NULL;
    out->family = LB_CHAT_UNKNOWN;
    if (strstr(text, "<|start_header_id|>") && strstr(text, "<|end_header_id|>") &&
        strstr(text, "<|eot_id|>")) {
        out->family = LB_CHAT_LLAMA3;
        answer = "<|start_header_id|>assistant<|end_header_id|>";
        opening = "\n\n";
        if (strstr(text, DATES_OPENING))
            read_dates(text, out, &no_memory);
    } else if (strstr(text, "<|im_start|>") && strstr(text, "<|im_end|>") && !strstr(text, "strftime_now")) {
        out->family = LB_CHAT_CHATML;
        answer = "<|im_start|>assistant";
        opening = "\n";
        out->default_system = find_in_pieces(text, "<|im_start|>system\n", "<|im_end|>", &no_memory);
    } else
        return LB_OK;
    out->begins_with_bos = strstr(text, "bos_token") != NULL;
    out->trims = trims_content(text);
    out->answer_opening = find_in_pieces(text, answer, NULL, &no_memory);
    if (!out->answer_opening || strspn(out->answer_opening, "\n") == 0) {
        lb_free(out->answer_opening);
        out->answer_opening = lb_strdup(opening);
        no_memory |= !out->answer_opening;
    }
    return no_memory ? lb_fail(err, LB_ENOMEM, "%s: no memory for its chat template", where) : LB_OK;
}

lb_status lb_chat_format_read(const json_t *config, const char *where, lb_chat_format *out, lb_error *err)
{
    const json_t *value = json_object_get(config, "chat_template");
    *out = (lb_chat_format){0};
    if (json_is_array(value)) {
        const json_t *chosen = json_array_get(value, 0);
        for (size_t i = 0; i < json_array_size(value); i++) {
            const char *name = json_string_value(json_object_get(json_array_get(value, i), "name"));
            if (name && strcmp(name, "default") == 0)
                chosen = json_array_get(value, i);
        }
        value = json_object_get(chosen, "template");
    }
    if (!value || json_is_null(value))
        return LB_OK;
    if (!json_is_string(value))
        return lb_fail(err, LB_EFORMAT,
                       "%s: its \"chat_template\" is neither a text nor a list of named texts", where);
    lb_status st = read_text(json_string_value(value), where, out, err);
    if (st != LB_OK)
        lb_chat_format_free(out);
    return st;
}

void lb_chat_format_free(lb_chat_format *format)
{
    lb_free(format->default_system);
    lb_free(format->system_preface);
    lb_free(format->answer_opening);
    *format = (lb_chat_format){0};
}
