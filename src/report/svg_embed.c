/* SPDX-License-Identifier: MIT
 * See svg_embed.h. Syntax: XML 1.0, sections 2 and 3, of which documents like gnuplot's use a small part. */
#include "report/svg_embed.h"

#include <string.h>

#include "io/utf8.h"

enum { MAX_DEPTH = 100, MAX_NAME = 60 };

static const char *const elements[] = {
    "svg",          "g",           "defs",    "title",          "desc",           "path",
    "rect",         "circle",      "ellipse", "line",           "polyline",       "polygon",
    "text",         "tspan",       "use",     "symbol",         "marker",         "clipPath",
    "mask",         "pattern",     "stop",    "linearGradient", "radialGradient", "filter",
    "feFlood",      "feComposite", "feMerge", "feMergeNode",    "feOffset",       "feGaussianBlur",
    "feColorMatrix"};

/* Names lie in the file: they are as long as `length` says. */
typedef struct span {
    const char *data;
    size_t length;
} span;

typedef struct embedding {
    const char *begin, *at, *end;
    const char *prefix;
    lb_text *out;
    span open[MAX_DEPTH]; /* the elements that we are in */
    size_t depth;
    bool done; /* the root was closed */
} embedding;

static lb_status fail(const embedding *e, const char *at, const char *what, lb_error *err)
{
    return lb_fail(err, LB_EFORMAT, "the SVG cannot be embedded: byte %zu: %s", (size_t)(at - e->begin),
                   what);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name_byte(char c, bool first)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_')
        return true;
    return !first && ((c >= '0' && c <= '9') || c == '-' || c == '.' || c == ':');
}

/* bytes [length] in either case against lower-case letters; strncasecmp would ask the locale. */
static bool spells(const char *bytes, const char *lower, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        const char c = bytes[i];
        if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != lower[i])
            return false;
    }
    return true;
}

static bool is_called(span name, const char *text)
{
    return name.length == strlen(text) && memcmp(name.data, text, name.length) == 0;
}

static bool begins(const embedding *e, const char *text)
{
    return (size_t)(e->end - e->at) >= strlen(text) && memcmp(e->at, text, strlen(text)) == 0;
}

static void skip_space(embedding *e)
{
    while (e->at < e->end && is_space(*e->at))
        e->at++;
}

/* Past the next `closing`. */
static lb_status skip_to(embedding *e, const char *closing, lb_error *err)
{
    const char *start = e->at;
    for (; e->at < e->end; e->at++) {
        if (begins(e, closing)) {
            e->at += strlen(closing);
            return LB_OK;
        }
    }
    return fail(e, start, "what begins here never ends", err);
}

static lb_status take_name(embedding *e, span *out, lb_error *err)
{
    const char *start = e->at;
    while (e->at < e->end && is_name_byte(*e->at, e->at == start))
        e->at++;
    *out = (span){start, (size_t)(e->at - start)};
    if (out->length == 0 || out->length > MAX_NAME)
        return fail(e, start, "a name was expected", err);
    return LB_OK;
}

static lb_status check_element(const embedding *e, span name, lb_error *err)
{
    if (e->depth == 0 && !is_called(name, "svg"))
        return fail(e, name.data, "the outermost element is not <svg>", err);
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
        if (is_called(name, elements[i]))
            return LB_OK;
    }
    return lb_fail(err, LB_EFORMAT, "the SVG cannot be embedded: byte %zu: <%.*s> is not a part of a picture",
                   (size_t)(name.data - e->begin), (int)name.length, name.data);
}

/* Entities other than XML's own would be undefined here, and numbers could spell what is searched for. */
static bool has_other_entity(span value)
{
    static const char *const known[] = {"amp;", "lt;", "gt;", "quot;", "apos;"};
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] != '&')
            continue;
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            const size_t length = strlen(known[k]);
            found = found ||
                    (value.length - i - 1 >= length && memcmp(value.data + i + 1, known[k], length) == 0);
        }
        if (!found)
            return true;
    }
    return false;
}

/* Where the quotes and spaces after an opening bracket end. */
static size_t past_quotes(span value, size_t at)
{
    while (at < value.length && (is_space(value.data[at]) || value.data[at] == '"' || value.data[at] == '\''))
        at++;
    return at;
}

/* Whether the letters before value.data[at] are those of `function`, in either case. */
static bool calls(span value, size_t at, const char *function)
{
    const size_t length = strlen(function);
    if (at < length || !spells(value.data + at - length, function, length))
        return false;
    const char before = at > length ? value.data[at - length - 1] : ':';
    return before == ':' || !is_name_byte(before, false);
}

/* The value with the prefix after each "url(#". Whatever else is called there may only be a colour or a
 * movement: several functions of CSS load pictures. */
static lb_status put_value(embedding *e, span value, lb_error *err)
{
    static const char *const harmless[] = {"rgb",    "rgba",  "hsl",   "hsla",  "translate",
                                           "rotate", "scale", "skewx", "skewy", "matrix"};
    size_t from = 0;
    for (size_t i = 0; i < value.length; i++) {
        bool known = value.data[i] != '(';
        for (size_t k = 0; !known && k < sizeof harmless / sizeof *harmless; k++)
            known = calls(value, i, harmless[k]);
        if (known)
            continue;
        const size_t at = past_quotes(value, i + 1);
        if (!calls(value, i, "url") || at == value.length || value.data[at] != '#')
            return fail(e, value.data + i, "a reference that leaves the file", err);
        lb_text_add(e->out, value.data + from, at + 1 - from);
        lb_text_add_string(e->out, e->prefix);
        from = at + 1;
    }
    lb_text_add(e->out, value.data + from, value.length - from);
    return LB_OK;
}

/* HTML takes attributes in either case. */
static bool is_attribute(span name, const char *text)
{
    return name.length == strlen(text) && spells(name.data, text, name.length);
}

static lb_status put_attribute(embedding *e, span name, span value, char quote, lb_error *err)
{
    const bool href = is_attribute(name, "href") || is_attribute(name, "xlink:href");
    const bool id = is_attribute(name, "id");
    if (name.length > 2 && spells(name.data, "on", 2))
        return fail(e, name.data, "an attribute that holds a script", err);
    if (is_attribute(name, "src") || (href && (value.length == 0 || *value.data != '#')))
        return fail(e, name.data, "a reference that leaves the file", err);
    if (memchr(value.data, '<', value.length) || memchr(value.data, '\\', value.length) ||
        has_other_entity(value))
        return fail(e, value.data, "a value with <, \\ or an entity that XML does not define", err);
    if (name.length >= 5 && spells(name.data, "xmlns", 5))
        return LB_OK; /* HTML knows which namespace it is */
    lb_text_add_format(e->out, " %.*s=%c", (int)name.length, name.data, quote);
    if (href) {
        lb_text_add_format(e->out, "#%s", e->prefix);
        lb_text_add(e->out, value.data + 1, value.length - 1);
    } else if (id) {
        lb_text_add_string(e->out, e->prefix);
        lb_text_add(e->out, value.data, value.length);
    } else {
        LB_TRY(put_value(e, value, err));
    }
    lb_text_add(e->out, &quote, 1);
    return LB_OK;
}

/* One attribute, spaces before it gone: name="value". */
static lb_status copy_attribute(embedding *e, lb_error *err)
{
    span name;
    LB_TRY(take_name(e, &name, err));
    skip_space(e);
    if (e->at == e->end || *e->at != '=')
        return fail(e, e->at, "an attribute without a value", err);
    e->at++;
    skip_space(e);
    if (e->at == e->end || (*e->at != '"' && *e->at != '\''))
        return fail(e, e->at, "a value without quotes", err);
    const char quote = *e->at++;
    const char *close = memchr(e->at, quote, (size_t)(e->end - e->at));
    if (!close)
        return fail(e, e->at, "what begins here never ends", err);
    const span value = {e->at, (size_t)(close - e->at)};
    e->at = close + 1;
    return put_attribute(e, name, value, quote, err);
}

/* <name attributes> or <name attributes/>; e->at is past the '<'. */
static lb_status copy_open(embedding *e, lb_error *err)
{
    span name;
    LB_TRY(take_name(e, &name, err));
    LB_TRY(check_element(e, name, err));
    if (e->done)
        return fail(e, name.data, "a second outermost element", err);
    if (e->depth > 0 &&
        (is_called(e->open[e->depth - 1], "title") || is_called(e->open[e->depth - 1], "desc")))
        return fail(e, name.data, "an element inside a title, which HTML would take for one of its own", err);
    lb_text_add_format(e->out, "<%.*s", (int)name.length, name.data);
    for (;;) {
        const char *before = e->at;
        skip_space(e);
        if (e->at == e->end)
            return fail(e, name.data, "what begins here never ends", err);
        if (*e->at == '>' || begins(e, "/>"))
            break;
        if (e->at == before)
            return fail(e, e->at, "a space was expected before an attribute", err);
        LB_TRY(copy_attribute(e, err));
    }
    if (*e->at == '/') {
        lb_text_add_string(e->out, "/>");
        e->at += 2;
        e->done = e->depth == 0;
        return LB_OK;
    }
    if (e->depth == MAX_DEPTH)
        return fail(e, name.data, "elements inside elements, too deep", err);
    lb_text_add_string(e->out, ">");
    e->at++;
    e->open[e->depth++] = name;
    return LB_OK;
}

/* </name>; e->at is past the "</". */
static lb_status copy_close(embedding *e, lb_error *err)
{
    span name;
    LB_TRY(take_name(e, &name, err));
    skip_space(e);
    if (e->at == e->end || *e->at != '>')
        return fail(e, e->at, "\">\" was expected", err);
    e->at++;
    if (e->depth == 0 || e->open[e->depth - 1].length != name.length ||
        memcmp(e->open[e->depth - 1].data, name.data, name.length) != 0)
        return fail(e, name.data, "an end without its beginning", err);
    e->depth--;
    e->done = e->depth == 0;
    lb_text_add_format(e->out, "</%.*s>", (int)name.length, name.data);
    return LB_OK;
}

/* Whatever begins with '<'. */
static lb_status copy_markup(embedding *e, lb_error *err)
{
    if (begins(e, "<!--"))
        return skip_to(e, "-->", err);
    if (begins(e, "<?"))
        return skip_to(e, "?>", err);
    if (begins(e, "<!DOCTYPE")) {
        const char *start = e->at;
        LB_TRY(skip_to(e, ">", err));
        if (memchr(start, '[', (size_t)(e->at - start)))
            return fail(e, start, "a document type that defines something", err);
        return LB_OK;
    }
    if (begins(e, "</")) {
        e->at += 2;
        return copy_close(e, err);
    }
    e->at++;
    return copy_open(e, err);
}

/* Text up to the next '<'. Outside of the root there is only space, which goes. */
static lb_status copy_text(embedding *e, lb_error *err)
{
    const char *next = memchr(e->at, '<', (size_t)(e->end - e->at));
    const span text = {e->at, (size_t)((next ? next : e->end) - e->at)};
    e->at += text.length;
    if (e->depth > 0) {
        lb_text_add(e->out, text.data, text.length);
        return LB_OK;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (!is_space(text.data[i]))
            return fail(e, text.data + i, "text outside of <svg>", err);
    }
    return LB_OK;
}

static lb_status check_utf8(const embedding *e, lb_error *err)
{
    size_t used;
    for (const char *at = e->at; at < e->end; at += used) {
        uint32_t code;
        if (lb_utf8_next(at, (size_t)(e->end - at), &code, &used) != LB_UTF8_VALID)
            return fail(e, at, "not UTF-8", err);
        if (code < 0x20 && !is_space((char)code))
            return fail(e, at, "a control character", err);
    }
    return LB_OK;
}

lb_status lb_svg_embed(const char *svg, size_t bytes, const char *prefix, lb_text *out, lb_error *err)
{
    embedding e = {.begin = svg, .at = svg, .end = svg + bytes, .prefix = prefix, .out = out};
    LB_TRY(check_utf8(&e, err));
    while (e.at < e.end)
        LB_TRY(*e.at == '<' ? copy_markup(&e, err) : copy_text(&e, err));
    if (!e.done)
        return fail(&e, e.end, "it ends before </svg>", err);
    if (out->failed)
        return lb_fail(err, LB_ENOMEM, "no memory for an SVG of %zu bytes", bytes);
    return LB_OK;
}
