/* SPDX-License-Identifier: MIT
 * The prompts are those of EleutherAI's lm-evaluation-harness 0.4, task by task. */
#include "eval/task_item.h"

#include <ctype.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "eval/answer.h"
#include "io/utf8.h"

enum { MAX_DATA_BYTES = 1 << 30 };

/* ---- Fields ------------------------------------------------------------------------------------------------- */

static const char *string_at(const json_t *line, const char *key)
{
    return json_string_value(json_object_get(line, key));
}

static lb_status missing(lb_error *err, const char *what)
{
    return lb_fail(err, LB_EFORMAT, "there is no %s", what);
}

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "tasks: no memory");
}

/* What the published layouts have in common once they are read. Strings are the line's. */
typedef struct question {
    const char *text, *more;
    const char *options[LB_TASK_MAX_CHOICES];
    size_t count, gold;
} question;

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isspace((unsigned char)line[i]))
            return false;
    return true;
}

static lb_status add_option(question *q, const char *option, lb_error *err)
{
    if (!option)
        return missing(err, "text of an option");
    if (is_blank(option, strlen(option)))
        return lb_fail(err, LB_EFORMAT, "option %zu is empty", q->count + 1);
    if (q->count == LB_TASK_MAX_CHOICES)
        return lb_fail(err, LB_EFORMAT, "there are more than %d options", LB_TASK_MAX_CHOICES);
    q->options[q->count++] = option;
    return LB_OK;
}

static lb_status add_options(question *q, const json_t *array, lb_error *err)
{
    size_t i;
    const json_t *option;
    if (!json_is_array(array))
        return missing(err, "list of options");
    json_array_foreach(array, i, option) LB_TRY(add_option(q, json_string_value(option), err));
    return LB_OK;
}

static lb_status check(const question *q, lb_error *err)
{
    if (!q->text)
        return missing(err, "question");
    if (q->count < 2)
        return lb_fail(err, LB_EFORMAT, "there are %zu options, want 2 or more", q->count);
    if (q->gold >= q->count)
        return lb_fail(err, LB_EFORMAT, "no option is named as the right one of %zu", q->count);
    return LB_OK;
}

/* A number, or a string that is one; SIZE_MAX otherwise. */
static size_t index_at(const json_t *line, const char *key, size_t first)
{
    const json_t *value = json_object_get(line, key);
    const char *text = json_string_value(value);
    json_int_t got = -1;
    if (json_is_integer(value))
        got = json_integer_value(value);
    else if (text && text[0] >= '0' && text[0] <= '9' && text[1] == '\0')
        got = text[0] - '0';
    return got >= (json_int_t)first && got < 1000 ? (size_t)got - first : SIZE_MAX;
}

/* {"centerpiece", "options", "correct_options_idx": [2]} */
static lb_status read_simple(const json_t *line, question *q, lb_error *err)
{
    const json_t *right = json_array_get(json_object_get(line, "correct_options_idx"), 0);
    q->text = string_at(line, "centerpiece");
    LB_TRY(add_options(q, json_object_get(line, "options"), err));
    q->gold = json_is_integer(right) && json_integer_value(right) >= 0 ? (size_t)json_integer_value(right)
                                                                       : SIZE_MAX;
    return check(q, err);
}

static bool is_simple(const json_t *line)
{
    return json_object_get(line, "centerpiece") != NULL;
}

/* ---- What a question and a choice become ---------------------------------------------------------------------- */

/* Without white space at both ends: where the text begins, and its length. */
static const char *trim(const char *text, size_t *length)
{
    while (isspace((unsigned char)*text))
        text++;
    *length = strlen(text);
    while (*length > 0 && isspace((unsigned char)text[*length - 1]))
        --*length;
    return text;
}

static size_t characters(const char *text)
{
    size_t count = 0, used;
    uint32_t code;
    for (size_t left = strlen(text); left > 0; left -= used, text += used) {
        (void)lb_utf8_next(text, left, &code, &used);
        count++;
    }
    return count;
}

/* Takes the text; NULL without memory. */
static char *take(lb_text *text)
{
    char *data = text->failed ? NULL : text->data ? text->data : lb_strdup("");
    if (text->failed)
        lb_text_free(text);
    *text = (lb_text){0};
    return data;
}

static lb_status add_context(lb_task_item *item, lb_text *text, lb_error *err)
{
    item->contexts[item->context_count] = take(text);
    if (!item->contexts[item->context_count])
        return no_memory(err);
    item->context_count++;
    return LB_OK;
}

/* The blank comes here. */
static lb_status add_choice(lb_task_item *item, const char *choice, lb_error *err)
{
    lb_text text = {0};
    if (is_blank(choice,
                 strlen(choice))) /* a last word, say, or what HellaSwag's cleaning left of an ending */
        return lb_fail(err, LB_EFORMAT, "answer %zu is empty", item->choice_count + 1);
    lb_text_add_string(&text, " ");
    lb_text_add_string(&text, choice);
    item->characters[item->choice_count] = characters(choice);
    item->choices[item->choice_count] = take(&text);
    if (!item->choices[item->choice_count])
        return no_memory(err);
    item->choice_count++;
    return LB_OK;
}

static lb_status add_choices(lb_task_item *item, const question *q, lb_error *err)
{
    for (size_t i = 0; i < q->count; i++)
        LB_TRY(add_choice(item, q->options[i], err));
    item->gold = q->gold;
    return LB_OK;
}

/* "Question: ...\nAnswer:", and the options as they are. */
static lb_status ask(const question *q, lb_task_item *out, lb_error *err)
{
    lb_text text = {0};
    lb_text_add_string(&text, "Question: ");
    lb_text_add_string(&text, q->text);
    lb_text_add_string(&text, "\nAnswer:");
    LB_TRY(add_context(out, &text, err));
    return add_choices(out, q, err);
}

static lb_status read_choice(const json_t *line, lb_task_item *out, lb_error *err)
{
    question q = {0};
    LB_TRY(read_simple(line, &q, err));
    return ask(&q, out, err);
}

/* {"goal", "sol1", "sol2", "label"} */
static lb_status read_piqa(const json_t *line, lb_task_item *out, lb_error *err)
{
    question q = {.text = string_at(line, "goal"), .gold = index_at(line, "label", 0)};
    if (is_simple(line))
        return read_choice(line, out, err);
    LB_TRY(add_option(&q, string_at(line, "sol1"), err));
    LB_TRY(add_option(&q, string_at(line, "sol2"), err));
    LB_TRY(check(&q, err));
    return ask(&q, out, err);
}

/* {"choices": {"text": [], "label": []}, "answerKey"}, or choices as [{"text", "label"}] */
static lb_status read_labelled(const json_t *line, const json_t *choices, question *q, lb_error *err)
{
    const char *key = string_at(line, "answerKey");
    const json_t *labels = json_object_get(choices, "label");
    const json_t *list = json_is_array(choices) ? choices : labels;
    q->gold = SIZE_MAX;
    if (!json_is_array(choices))
        LB_TRY(add_options(q, json_object_get(choices, "text"), err));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *label = json_is_object(entry) ? string_at(entry, "label") : json_string_value(entry);
        if (json_is_array(choices))
            LB_TRY(add_option(q, string_at(entry, "text"), err));
        if (key && label && strcmp(key, label) == 0)
            q->gold = i;
    }
    return check(q, err);
}

/* {"question": "..." or {"stem", "choices"}, "choices", "answerKey"} */
static lb_status read_arc(const json_t *line, lb_task_item *out, lb_error *err)
{
    const json_t *inner = json_object_get(line, "question");
    const bool nested = json_is_object(inner);
    question q = {.text = nested ? string_at(inner, "stem") : json_string_value(inner)};
    if (is_simple(line))
        return read_choice(line, out, err);
    LB_TRY(read_labelled(line, json_object_get(nested ? inner : line, "choices"), &q, err));
    return ask(&q, out, err);
}

/* {"question_stem", "choices", "answerKey"}: the sentence goes on with the right choice. */
static lb_status read_openbookqa(const json_t *line, lb_task_item *out, lb_error *err)
{
    question q = {.text = string_at(line, "question_stem")};
    lb_text text = {0};
    if (is_simple(line))
        LB_TRY(read_simple(line, &q, err));
    else
        LB_TRY(read_labelled(line, json_object_get(line, "choices"), &q, err));
    lb_text_add_string(&text, q.text);
    LB_TRY(add_context(out, &text, err));
    return add_choices(out, &q, err);
}

/* {"passage", "question", "answer" or "label"} */
static lb_status read_boolq(const json_t *line, lb_task_item *out, lb_error *err)
{
    const json_t *answer = json_object_get(line, "answer");
    question q = {.text = string_at(line, "question"), .more = string_at(line, "passage")};
    lb_text text = {0};
    LB_TRY(add_option(&q, "no", err));
    LB_TRY(add_option(&q, "yes", err));
    q.gold = json_is_boolean(answer) ? (size_t)json_is_true(answer) : index_at(line, "label", 0);
    LB_TRY(check(&q, err));
    if (!q.more)
        return missing(err, "passage");
    lb_text_add_string(&text, q.more);
    lb_text_add_string(&text, "\nQuestion: ");
    lb_text_add_string(&text, q.text);
    lb_text_add_string(&text, "?\nAnswer:");
    LB_TRY(add_context(out, &text, err));
    return add_choices(out, &q, err);
}

/* {"sentence", "option1", "option2", "answer": "1"}: each option in its place, and what comes after as the choice. */
static lb_status read_winogrande(const json_t *line, lb_task_item *out, lb_error *err)
{
    question q = {.text = string_at(line, "sentence"), .gold = index_at(line, "answer", 1)};
    if (is_simple(line)) {
        LB_TRY(read_simple(line, &q, err));
    } else {
        LB_TRY(add_option(&q, string_at(line, "option1"), err));
        LB_TRY(add_option(&q, string_at(line, "option2"), err));
        LB_TRY(check(&q, err));
    }
    const char *blank = strchr(q.text, '_');
    if (!blank)
        return lb_fail(err, LB_EFORMAT, "the sentence has no _ for its options");
    size_t length;
    const char *rest = trim(blank + 1, &length);
    for (size_t i = 0; i < q.count; i++) {
        lb_text text = {0}, after = {0};
        lb_text_add(&text, q.text, (size_t)(blank - q.text));
        lb_text_add_string(&text, q.options[i]);
        LB_TRY(add_context(out, &text, err));
        lb_text_add(&after, rest, length);
        char *tail = take(&after);
        const lb_status st = tail ? add_choice(out, tail, err) : no_memory(err);
        lb_free(tail);
        LB_TRY(st);
    }
    out->gold = q.gold;
    return LB_OK;
}

/* HellaSwag's texts: trimmed, "[title]" and all that is in brackets taken out, two blanks made one. */
static void add_cleaned(lb_text *out, const char *text)
{
    static const char title[] = " [title]";
    lb_text plain = {0};
    size_t length;
    text = trim(text, &length);
    for (size_t i = 0; i < length;) {
        const char *close = text[i] == '[' ? memchr(text + i, ']', length - i) : NULL;
        const char *line_end = text[i] == '[' ? memchr(text + i, '\n', length - i) : NULL;
        if (length - i >= sizeof title - 1 && memcmp(text + i, title, sizeof title - 1) == 0) {
            lb_text_add_string(&plain, ". ");
            i += sizeof title - 1;
        } else if (close && (!line_end || close < line_end)) {
            i = (size_t)(close - text) + 1;
        } else {
            lb_text_add(&plain, text + i++, 1);
        }
    }
    for (size_t i = 0; i < plain.length; i++) {
        lb_text_add(out, plain.data + i, 1);
        i += plain.data[i] == ' ' && i + 1 < plain.length && plain.data[i + 1] == ' ';
    }
    out->failed |= plain.failed;
    lb_text_free(&plain);
}

/* The first letter as a title has it, the others small. */
static void add_capitalized(lb_text *out, const char *text)
{
    size_t used;
    bool first = true;
    for (size_t left = strlen(text); left > 0; left -= used, text += used, first = false) {
        uint32_t code;
        utf8proc_uint8_t bytes[4];
        if (lb_utf8_next(text, left, &code, &used) != LB_UTF8_VALID) {
            lb_text_add(out, text, used);
            continue;
        }
        const utf8proc_int32_t cased =
            first ? utf8proc_totitle((utf8proc_int32_t)code) : utf8proc_tolower((utf8proc_int32_t)code);
        lb_text_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(cased, bytes));
    }
}

/* {"activity_label", "ctx_a", "ctx_b", "endings", "label"}, or {"ctx", "good", "bad"} */
static lb_status read_hellaswag(const json_t *line, lb_task_item *out, lb_error *err)
{
    const char *activity = string_at(line, "activity_label"), *a = string_at(line, "ctx_a"),
               *b = string_at(line, "ctx_b");
    question q = {.text = string_at(line, "ctx")};
    lb_text raw = {0}, context = {0};
    if (json_object_get(line, "good")) {
        LB_TRY(add_option(&q, string_at(line, "good"), err));
        LB_TRY(add_option(&q, string_at(line, "bad"), err));
    } else {
        LB_TRY(add_options(&q, json_object_get(line, "endings"), err));
        q.gold = index_at(line, "label", 0);
        q.text = activity && a && b ? activity : NULL;
    }
    LB_TRY(check(&q, err));
    lb_text_add_string(&raw, q.text);
    if (q.text == activity) {
        lb_text_add_string(&raw, ": ");
        lb_text_add_string(&raw, a);
        lb_text_add_string(&raw, " ");
        add_capitalized(&raw, b);
    }
    if (raw.data)
        add_cleaned(&context, raw.data);
    context.failed |= raw.failed;
    lb_text_free(&raw);
    LB_TRY(add_context(out, &context, err));
    for (size_t i = 0; i < q.count; i++) {
        lb_text ending = {0};
        add_cleaned(&ending, q.options[i]);
        char *choice = take(&ending);
        const lb_status st = choice ? add_choice(out, choice, err) : no_memory(err);
        lb_free(choice);
        LB_TRY(st);
    }
    out->gold = q.gold;
    return LB_OK;
}

/* {"question", "choices": [4], "answer": 0 or "A", "subject"} */
static lb_status read_mmlu(const json_t *line, lb_task_item *out, lb_error *err)
{
    static const char *const letters[] = {"A", "B", "C", "D", "E", "F", "G", "H", "I", "J"};
    enum { LETTERS = sizeof letters / sizeof *letters };
    const char *answer = string_at(line, "answer"), *subject = string_at(line, "subject");
    question q = {.text = string_at(line, "question")};
    lb_text text = {0};
    if (is_simple(line)) {
        LB_TRY(read_simple(line, &q, err));
    } else {
        LB_TRY(add_options(&q, json_object_get(line, "choices"), err));
        q.gold = answer && answer[0] >= 'A' && answer[0] <= 'J' && answer[1] == '\0'
                     ? (size_t)(answer[0] - 'A')
                     : index_at(line, "answer", 0);
        LB_TRY(check(&q, err));
    }
    if (q.count > LETTERS)
        return lb_fail(err, LB_EFORMAT, "there are %zu options, want at most %d", q.count, LETTERS);
    size_t length;
    const char *asked = trim(q.text, &length);
    lb_text_add(&text, asked, length);
    for (size_t i = 0; i < q.count; i++)
        lb_text_add_format(&text, "\n%s. %s", letters[i], q.options[i]);
    lb_text_add_string(&text, "\nAnswer:");
    LB_TRY(add_context(out, &text, err));
    for (size_t i = 0; i < q.count; i++)
        LB_TRY(add_choice(out, letters[i], err));
    out->gold = q.gold;
    if (subject && !(out->group = lb_strdup(subject)))
        return no_memory(err);
    for (char *c = out->group; c && *c; c++)
        *c = *c == '_' ? ' ' : *c;
    return LB_OK;
}

/* {"text"}: the last word is what follows the last blank. */
static lb_status read_lambada(const json_t *line, lb_task_item *out, lb_error *err)
{
    const char *text = string_at(line, "text"), *blank = text ? strrchr(text, ' ') : NULL;
    lb_text context = {0};
    if (!blank)
        return missing(err, "text of several words");
    lb_text_add(&context, text, (size_t)(blank - text));
    LB_TRY(add_context(out, &context, err));
    return add_choice(out, blank + 1, err);
}

/* {"question", "answer"} */
static lb_status read_gsm8k(const json_t *line, lb_task_item *out, lb_error *err)
{
    const char *text = string_at(line, "question"), *answer = string_at(line, "answer");
    char number[LB_ANSWER_BYTES];
    lb_text context = {0};
    if (!text || !answer)
        return missing(err, text ? "answer" : "question");
    if (!lb_answer_marked(answer, number) && !lb_answer_last(answer, number))
        return missing(err, "number in the answer");
    lb_text_add_string(&context, "Question: ");
    lb_text_add_string(&context, text);
    lb_text_add_string(&context, "\nAnswer:");
    LB_TRY(add_context(out, &context, err));
    return add_choice(out, answer, err);
}

static const lb_task_kind kinds[] = {
    {"piqa", LB_TASK_CHOICE_NORM, read_piqa, NULL},
    {"arc-easy", LB_TASK_CHOICE_NORM, read_arc, NULL},
    {"arc-challenge", LB_TASK_CHOICE_NORM, read_arc, NULL},
    {"hellaswag", LB_TASK_CHOICE_NORM, read_hellaswag, NULL},
    {"winogrande", LB_TASK_CHOICE, read_winogrande, NULL},
    {"openbookqa", LB_TASK_CHOICE_NORM, read_openbookqa, NULL},
    {"boolq", LB_TASK_CHOICE, read_boolq, NULL},
    {"mmlu", LB_TASK_CHOICE, read_mmlu,
     "The following are multiple choice questions (with answers) about %s.\n\n"},
    {"lambada", LB_TASK_LAST_WORD, read_lambada, NULL},
    {"gsm8k", LB_TASK_GENERATE, read_gsm8k, NULL},
    {"choice", LB_TASK_CHOICE_NORM, read_choice, NULL},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

lb_status lb_task_find(const char *name, const lb_task_kind **out, lb_error *err)
{
    lb_text names = {0};
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            *out = &kinds[i];
            lb_text_free(&names);
            return LB_OK;
        }
        lb_text_add_format(&names, "%s%s", i ? ", " : "", kinds[i].name);
    }
    const lb_status st = lb_fail(err, LB_EINVAL, "task \"%.40s\" is not known: there are %s", name,
                                 names.data ? names.data : "");
    lb_text_free(&names);
    return st;
}

/* ---- Files --------------------------------------------------------------------------------------------------- */

static void free_item(lb_task_item *item)
{
    for (size_t i = 0; i < LB_TASK_MAX_CHOICES; i++) {
        lb_free(item->contexts[i]);
        lb_free(item->choices[i]);
    }
    lb_free(item->group);
}

void lb_task_items_free(lb_task_items *items)
{
    for (size_t i = 0; i < items->count; i++)
        free_item(&items->items[i]);
    lb_free(items->items);
    *items = (lb_task_items){0};
}

static lb_status add_item(lb_task_items *items, size_t *capacity, const lb_task_item *item, lb_error *err)
{
    if (items->count == *capacity) {
        const size_t more = *capacity ? 2 * *capacity : 256;
        lb_task_item *grown = lb_grow(items->items, *capacity, more, sizeof *grown);
        if (!grown)
            return no_memory(err);
        items->items = grown;
        *capacity = more;
    }
    items->items[items->count++] = *item;
    return LB_OK;
}

static lb_status parse_line(const lb_task_kind *kind, const char *line, size_t length, const char *where,
                            lb_task_item *out, lb_error *err)
{
    json_t *json;
    lb_task_item item = {0};
    LB_TRY(lb_json_parse(line, length, where, &json, err));
    lb_status st = kind->read(json, &item, err);
    json_decref(json);
    if (st == LB_OK) {
        *out = item;
        return LB_OK;
    }
    free_item(&item);
    return lb_fail_at(err, st, "%s, which is no line of %s", where, kind->name);
}

lb_status lb_task_parse(const lb_task_kind *kind, const char *text, size_t bytes, size_t limit,
                        const char *where, lb_task_items *out, lb_error *err)
{
    lb_task_items items = {0};
    size_t capacity = 0, number = 1;
    lb_status st = LB_OK;
    const size_t mark = bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0; /* a byte order mark */
    for (const char *at = text + mark, *end = text + bytes; at < end && (limit == 0 || items.count < limit);
         number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const size_t length = (size_t)((newline ? newline : end) - at);
        lb_text place = {0};
        lb_task_item item;
        lb_text_add_format(&place, "%s: line %zu", where, number);
        if (place.failed)
            st = no_memory(err);
        else if (!is_blank(at, length)) {
            st = parse_line(kind, at, length, place.data, &item, err);
            if (st == LB_OK && (st = add_item(&items, &capacity, &item, err)) != LB_OK)
                free_item(&item);
        }
        lb_text_free(&place);
        if (st != LB_OK)
            break;
        at += length + 1;
    }
    if (st == LB_OK && items.count == 0)
        st = lb_fail(err, LB_EFORMAT, "%s has no line", where);
    if (st == LB_OK)
        *out = items;
    else
        lb_task_items_free(&items);
    return st;
}

lb_status lb_task_read(const lb_task_kind *kind, const char *path, size_t limit, lb_task_items *out,
                       lb_error *err)
{
    char *text;
    size_t bytes;
    LB_TRY(lb_file_read_text(path, MAX_DATA_BYTES, &text, &bytes, err));
    const lb_status st = lb_task_parse(kind, text, bytes, limit, path, out, err);
    lb_free(text);
    return st;
}

lb_status lb_task_set_read(const lb_task_spec *task, size_t limit, size_t shots, lb_task_set *out,
                           lb_error *err)
{
    *out = (lb_task_set){.first = task->examples ? 0 : shots, .shots = shots};
    LB_TRY(lb_task_find(task->name, &out->kind, err));
    if (shots > 0 && !task->examples && out->kind->says_group)
        return lb_fail(err, LB_EINVAL, "task %s wants a file of examples for each of its subjects",
                       task->name);
    LB_TRY(lb_task_read(out->kind, task->data, limit ? limit + out->first : 0, &out->items, err));
    if (shots > 0 && task->examples)
        LB_TRY(lb_task_read(out->kind, task->examples, 0, &out->others, err));
    if (out->items.count <= out->first)
        return lb_fail(err, LB_EINVAL, "%s has %zu lines, all of which would be examples", task->data,
                       out->items.count);
    return LB_OK;
}

void lb_task_set_free(lb_task_set *set)
{
    lb_task_items_free(&set->items);
    lb_task_items_free(&set->others);
}

lb_status lb_task_heading(const lb_task_set *set, const lb_task_item *item, lb_text *out, lb_error *err)
{
    const lb_task_kind *kind = set->kind;
    const lb_task_items *examples = set->others.items ? &set->others : &set->items;
    const size_t shots = set->shots;
    size_t found = 0;
    if (kind->says_group && item->group) {
        const char *place = strstr(kind->says_group, "%s");
        lb_text_add(out, kind->says_group, (size_t)(place - kind->says_group));
        lb_text_add_string(out, item->group);
        lb_text_add_string(out, place + 2);
    }
    for (size_t i = 0; found < shots && i < examples->count; i++) {
        const lb_task_item *e = &examples->items[i];
        if (item->group && (!e->group || strcmp(e->group, item->group) != 0))
            continue;
        lb_text_add_string(out, e->contexts[e->context_count > 1 ? e->gold : 0]);
        lb_text_add_string(out, e->choices[e->gold]);
        lb_text_add_string(out, "\n\n");
        found++;
    }
    if (found < shots)
        return lb_fail(err, LB_EINVAL, "%zu examples%s%s, want %zu", found, item->group ? " about " : "",
                       item->group ? item->group : "", shots);
    return out->failed ? no_memory(err) : LB_OK;
}
