/* SPDX-License-Identifier: MIT
 * Lines of every task in every layout, as the prompts that the field's usual harness makes of them. */
#include "near.h"

#include <string.h>

#include "base/alloc.h"
#include "eval/task_item.h"

typedef struct sample {
    const char *task, *line;
    const char *contexts[2]; /* the second only where each choice has one */
    const char *choices[4];
    size_t gold, characters; /* characters: of the right choice */
} sample;

static const sample samples[] = {
    {"piqa",
     "{\"goal\": \"Boil an egg\", \"sol1\": \"Use water.\", \"sol2\": \"Use sand.\", \"label\": 0}",
     {"Question: Boil an egg\nAnswer:"},
     {" Use water.", " Use sand."},
     0,
     10},
    {"piqa",
     "{\"centerpiece\": \"Boil an egg\", \"options\": [\"W\", \"S\u00e9\"], \"correct_options_idx\": [1]}",
     {"Question: Boil an egg\nAnswer:"},
     {" W", " S\xC3\xA9"},
     1,
     2},
    {"arc-easy",
     "{\"question\": \"Why?\", \"choices\": {\"text\": [\"a\", \"b\", \"c\"], \"label\": [\"1\", \"2\", "
     "\"3\"]}, \"answerKey\": \"3\"}",
     {"Question: Why?\nAnswer:"},
     {" a", " b", " c"},
     2,
     1},
    {"arc-challenge",
     "{\"question\": {\"stem\": \"Why?\", \"choices\": [{\"text\": \"aa\", \"label\": \"A\"}, {\"text\": "
     "\"b\", \"label\": \"B\"}]}, \"answerKey\": \"A\"}",
     {"Question: Why?\nAnswer:"},
     {" aa", " b"},
     0,
     2},
    {"openbookqa",
     "{\"question_stem\": \"The sun\", \"choices\": {\"text\": [\"sings\", \"shines\"], \"label\": [\"A\", "
     "\"B\"]}, \"answerKey\": \"B\"}",
     {"The sun"},
     {" sings", " shines"},
     1,
     6},
    {"boolq",
     "{\"passage\": \"Cats purr.\", \"question\": \"do cats purr\", \"answer\": true}",
     {"Cats purr.\nQuestion: do cats purr?\nAnswer:"},
     {" no", " yes"},
     1,
     3},
    {"boolq",
     "{\"passage\": \"Cats purr.\", \"question\": \"do cats bark\", \"label\": 0}",
     {"Cats purr.\nQuestion: do cats bark?\nAnswer:"},
     {" no", " yes"},
     0,
     2},
    {"winogrande",
     "{\"sentence\": \"Ann beat Bea, so _ won. \", \"option1\": \"Ann\", \"option2\": \"Bea\", \"answer\": "
     "\"1\"}",
     {"Ann beat Bea, so Ann", "Ann beat Bea, so Bea"},
     {" won.", " won."},
     0,
     4},
    {"hellaswag",
     "{\"activity_label\": \"Cooking\", \"ctx_a\": \"A man  cooks [step] soup.\", \"ctx_b\": \"the MAN\", "
     "\"endings\": [\"eats [title] it.\", \"b\", \"c\", \" d\"], \"label\": \"3\"}",
     {"Cooking: A man cooks soup. The man"},
     {" eats. it.", " b", " c", " d"},
     3,
     1},
    {"hellaswag",
     "{\"ctx\": \"He sits\", \"good\": \"down.\", \"bad\": \"up.\"}",
     {"He sits"},
     {" down.", " up."},
     0,
     5},
    {"mmlu",
     "{\"question\": \" What is 2+2?\\n\", \"choices\": [\"1\", \"2\", \"3\", \"4\"], \"answer\": 3, "
     "\"subject\": \"high_school_maths\"}",
     {"What is 2+2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"},
     {" A", " B", " C", " D"},
     3,
     1},
    {"mmlu",
     "{\"question\": \"Q\", \"choices\": [\"x\", \"y\"], \"answer\": \"B\"}",
     {"Q\nA. x\nB. y\nAnswer:"},
     {" A", " B"},
     1,
     1},
    {"lambada", "{\"text\": \"\\\"Who,\\\" said the old man\"}", {"\"Who,\" said the old"}, {" man"}, 0, 3},
    {"gsm8k",
     "{\"question\": \"1+1?\", \"answer\": \"It is\\n#### 2\"}",
     {"Question: 1+1?\nAnswer:"},
     {" It is\n#### 2"},
     0,
     12},
    {"choice",
     "{\"centerpiece\": \"Q\", \"options\": [\"x\", \"yy\"], \"correct_options_idx\": [1]}",
     {"Question: Q\nAnswer:"},
     {" x", " yy"},
     1,
     2},
};

static void every_layout(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof samples / sizeof *samples; s++) {
        const sample *want = &samples[s];
        const lb_task_kind *kind;
        lb_task_items items;
        lb_error err;
        assert_int_equal(lb_task_find(want->task, &kind, &err), LB_OK);
        if (lb_task_parse(kind, want->line, strlen(want->line), 0, "data", &items, &err) != LB_OK)
            fail_msg("%s: %s", want->task, err.msg);
        const lb_task_item *item = &items.items[0];
        assert_int_equal(items.count, 1);
        for (size_t c = 0; c < 4 && want->choices[c]; c++) {
            assert_true(c < item->choice_count);
            assert_string_equal(item->choices[c], want->choices[c]);
            const size_t at = item->context_count > 1 ? c : 0;
            assert_string_equal(item->contexts[at], want->contexts[at]);
        }
        assert_int_equal(item->context_count, want->contexts[1] ? 2 : 1);
        assert_int_equal(item->gold, want->gold);
        assert_int_equal(item->characters[item->gold], want->characters);
        lb_task_items_free(&items);
    }
}

static void broken_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *task, *text, *says;
    } cases[] = {
        {"piqa", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 2}", "no option is named"},
        {"piqa", "\n\n{\"goal\": \"g\", \"sol1\": \"a\"}", "line 3"},
        {"piqa", "{\"goal\": 5, \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 0}", "no question"},
        {"piqa", "[1, 2]", "not an object"},
        {"piqa", "{\"goal\"", "line 1"},
        {"piqa", " \n \n", "has no line"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": [\"x\"], \"correct_options_idx\": [0]}",
         "want 2 or more"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": [\"x\", \"y\"], \"correct_options_idx\": [-1]}",
         "no option"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": [\"x\", 7], \"correct_options_idx\": [0]}",
         "text of an option"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": {}, \"correct_options_idx\": [0]}",
         "list of options"},
        {"winogrande",
         "{\"sentence\": \"no gap\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}", "no _"},
        {"winogrande", "{\"sentence\": \"a _ b\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"0\"}",
         "no option"},
        {"arc-easy",
         "{\"question\": \"q\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}, "
         "\"answerKey\": \"E\"}",
         "no option"},
        {"boolq", "{\"question\": \"q\", \"answer\": true}", "no passage"},
        {"lambada", "{\"text\": \"oneword\"}", "several words"},
        {"lambada", "{\"text\": \"ends with a blank \"}", "answer 1 is empty"},
        {"gsm8k", "{\"question\": \"q\"}", "no answer"},
        {"gsm8k", "{\"question\": \"q\", \"answer\": \"four\"}", "no number in the answer"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": [], \"correct_options_idx\": [0]}",
         "line 1, which is no line of choice: there are 0 options"},
        {"choice", "\n{\"centerpiece\": \"Q\", \"options\": [\"x\", \"\"], \"correct_options_idx\": [0]}",
         "line 2, which is no line of choice: option 2 is empty"},
        {"choice", "{\"centerpiece\": \"Q\", \"options\": [\" \", \"y\"], \"correct_options_idx\": [0]}",
         "option 1 is empty"},
        {"hellaswag",
         "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"x\", "
         "\"[gone]\"], \"label\": 0}",
         "answer 2 is empty"},
        {"choice", "\xEF\xBB\xBF", "has no line"},
        {"choice", "\xEF\xBB\xBF\xEF\xBB\xBF{}", "line 1"},
        {"hellaswag", "{\"ctx_a\": \"a\", \"endings\": [\"a\", \"b\"], \"label\": 0}", "no question"},
        {"mmlu",
         "{\"question\": \"q\", \"choices\": "
         "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"], \"answer\": 0}",
         "at most 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lb_task_kind *kind;
        lb_task_items items;
        lb_error err = {0};
        assert_int_equal(lb_task_find(cases[i].task, &kind, &err), LB_OK);
        assert_int_equal(lb_task_parse(kind, cases[i].text, strlen(cases[i].text), 0, "data", &items, &err),
                         LB_EFORMAT);
        if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, "data"))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, cases[i].says);
    }
    const lb_task_kind *kind;
    lb_error err;
    assert_int_equal(lb_task_find("pica", &kind, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "arc-easy"));
}

/* As some editors begin a file. */
static void a_byte_order_mark_is_nothing(void **state)
{
    (void)state;
    static const char line[] =
        "\xEF\xBB\xBF{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 1}\n";
    const lb_task_kind *kind;
    lb_task_items items;
    assert_int_equal(lb_task_find("piqa", &kind, NULL), LB_OK);
    assert_int_equal(lb_task_parse(kind, line, sizeof line - 1, 0, "data", &items, NULL), LB_OK);
    assert_int_equal(items.count, 1);
    assert_string_equal(items.items[0].contexts[0], "Question: g\nAnswer:");
    lb_task_items_free(&items);
}

static void examples_are_of_the_same_subject(void **state)
{
    (void)state;
    static const char lines[] =
        "{\"question\": \"a\", \"choices\": [\"1\", \"2\"], \"answer\": 0, \"subject\": \"law\"}\n"
        "{\"question\": \"b\", \"choices\": [\"1\", \"2\"], \"answer\": 1, \"subject\": \"art_history\"}\n"
        "{\"question\": \"c\", \"choices\": [\"1\", \"2\"], \"answer\": 1, \"subject\": \"law\"}\n";
    const lb_task_kind *kind;
    lb_task_items items;
    lb_text text = {0};
    lb_error err;
    assert_int_equal(lb_task_find("mmlu", &kind, &err), LB_OK);
    assert_int_equal(lb_task_parse(kind, lines, sizeof lines - 1, 0, "data", &items, &err), LB_OK);
    lb_task_set set = {.kind = kind, .items = items, .shots = 2};
    assert_int_equal(lb_task_heading(&set, &items.items[0], &text, &err), LB_OK);
    assert_string_equal(text.data, "The following are multiple choice questions (with answers) about law.\n\n"
                                   "a\nA. 1\nB. 2\nAnswer: A\n\n"
                                   "c\nA. 1\nB. 2\nAnswer: B\n\n");
    lb_text_free(&text);
    set.shots = 0;
    assert_int_equal(lb_task_heading(&set, &items.items[1], &text, &err), LB_OK);
    assert_string_equal(text.data,
                        "The following are multiple choice questions (with answers) about art history.\n\n");
    lb_text_free(&text);
    set.shots = 2;
    assert_int_equal(lb_task_heading(&set, &items.items[1], &text, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "1 examples about art history, want 2"));
    lb_text_free(&text);
    lb_task_items_free(&items);
    assert_int_equal(lb_task_parse(kind, lines, sizeof lines - 1, 2, "data", &items, &err), LB_OK);
    assert_int_equal(items.count, 2);
    lb_task_items_free(&items);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    const sample *s = &samples[8];
    for (size_t k = 1; k < 200; k++) {
        const lb_task_kind *kind;
        lb_task_items items;
        lb_error err;
        assert_int_equal(lb_task_find(s->task, &kind, &err), LB_OK);
        lb_alloc_fail_at(k);
        const lb_status st = lb_task_parse(kind, s->line, strlen(s->line), 0, "data", &items, &err);
        lb_alloc_fail_at(0);
        if (st == LB_OK) {
            lb_task_items_free(&items);
            assert_true(k > 5);
            return;
        }
        assert_int_equal(st, LB_ENOMEM);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout), cmocka_unit_test(broken_lines_are_named),
        cmocka_unit_test(a_byte_order_mark_is_nothing), cmocka_unit_test(examples_are_of_the_same_subject),
        cmocka_unit_test(memory_may_run_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
