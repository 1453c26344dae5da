/* SPDX-License-Identifier: MIT
 * The declarative flags: every kind of value, every kind of misuse, and the text of -h. */
#include "near.h"

#include "cli/args.h"
#include "cli/suggest.h"

typedef struct values {
    lb_common_args common;
    const char *model, *text, *mode, *note;
    size_t ctx;
    double temp;
    bool exact;
    lb_arg_list layers, rest;
} values;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(values, model), .help = "the model"},
    {"REST", LB_ARG_OPERANDS, offsetof(values, rest), .optional = true, .help = "more"},
    {"--text", LB_ARG_STRING, offsetof(values, text), .letter = 't', .value = "FILE", .required = true,
     .help = "the text"},
    {"--ctx", LB_ARG_SIZE, offsetof(values, ctx), .low = 2, .high = 4096, .preset = "512",
     .help = "tokens in a window"},
    {"--temp", LB_ARG_DOUBLE, offsetof(values, temp), .low = -1, .preset = "0.8", .help = "temperature"},
    {"--mode", LB_ARG_CHOICE, offsetof(values, mode), .choices = "fast|default|best", .preset = "default",
     .help = "how hard to try"},
    {"--exact", LB_ARG_FLAG, offsetof(values, exact), .help = "do not round"},
    {"--layer", LB_ARG_LIST, offsetof(values, layers), .value = "PATTERN=FORMAT", .help = "per layer"},
    {"--note", LB_ARG_STRING, offsetof(values, note), .value = "TEXT", .help = "a remark"},
};
static const lb_arg_spec spec = {
    "score",        "Scores a model.",     options, sizeof options / sizeof *options,
    sizeof(values), "lowbit score m -t f", NULL,    NULL};

/* Parses a NULL-terminated list of words, the command's name excluded. */
static lb_status read_with(const char *cpu, values *v, lb_error *err, char **words)
{
    char *argv[100] = {(char[]){"score"}};
    int argc = 1;
    while (*words)
        argv[argc++] = *words++;
    return lb_args_read(&spec, argc, argv, cpu, v, err);
}
#define READ(v, err, ...) read_with(NULL, (v), (err), (char *[]){__VA_ARGS__, NULL})

static void refuse(const char *sentence, char **words)
{
    values v;
    lb_error err;
    assert_int_equal(read_with(NULL, &v, &err, words), LB_EINVAL);
    assert_string_equal(err.msg, sentence);
}
#define REFUSE(sentence, ...) refuse((sentence), (char *[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    (void)state;
    values v;
    lb_error err;
    assert_int_equal(READ(&v, &err, "m", "--text", "f"), LB_OK);
    assert_string_equal(v.model, "m");
    assert_string_equal(v.text, "f");
    assert_int_equal(v.ctx, 512);
    assert_true(v.temp == 0.8);
    assert_string_equal(v.mode, "default");
    assert_false(v.exact);
    assert_int_equal(v.layers.count + v.rest.count, 0);
    assert_int_equal(v.common.seed, 42);
    assert_int_equal(v.common.threads, 0);
    assert_int_equal(v.common.level, LB_CPU_BEST);
    assert_false(v.common.quiet || v.common.verbose || v.common.json || v.common.help);
    assert_true(lb_args_given(&spec, &v, "--text"));
    assert_false(lb_args_given(&spec, &v, "--ctx"));
}

static void every_kind_and_both_spellings(void **state)
{
    (void)state;
    values v;
    lb_error err;
    assert_int_equal(READ(&v, &err, "--ctx=64", "m", "-t", "a=b", "--temp", "-0.5", "--exact", "--mode",
                          "best", "--layer", "*.q=int4", "--layer=x=y", "-q", "-v", "--json", "--seed", "7",
                          "--threads=3", "--cpu", "ref", "r1", "r2"),
                     LB_OK);
    assert_int_equal(v.ctx, 64);
    assert_string_equal(v.text, "a=b");
    assert_true(v.temp == -0.5);
    assert_true(v.exact);
    assert_string_equal(v.mode, "best");
    assert_int_equal(v.layers.count, 2);
    assert_string_equal(v.layers.items[0], "*.q=int4");
    assert_string_equal(v.layers.items[1], "x=y");
    assert_int_equal(v.rest.count, 2);
    assert_string_equal(v.rest.items[1], "r2");
    assert_true(v.common.quiet && v.common.verbose && v.common.json);
    assert_int_equal(v.common.seed, 7);
    assert_int_equal(v.common.threads, 3);
    assert_int_equal(v.common.level, LB_CPU_REF);
    assert_true(lb_args_given(&spec, &v, "--ctx"));
}

static void the_last_one_wins_and_a_value_may_be_a_dash(void **state)
{
    (void)state;
    values v;
    lb_error err;
    assert_int_equal(READ(&v, &err, "m", "-t", "a", "--text=b", "--ctx", "3", "--ctx", "4"), LB_OK);
    assert_string_equal(v.text, "b");
    assert_int_equal(v.ctx, 4);
    assert_int_equal(READ(&v, &err, "-", "-t", "-"), LB_OK);
    assert_string_equal(v.model, "-");
    assert_string_equal(v.text, "-");
    assert_int_equal(READ(&v, &err, "m", "-t", "- a list item"), LB_OK);
    assert_string_equal(v.text, "- a list item");
}

static void texts_may_be_empty_and_names_not(void **state)
{
    (void)state;
    values v;
    lb_error err;
    assert_int_equal(READ(&v, &err, "m", "-t", "f", "--note", ""), LB_OK);
    assert_string_equal(v.note, "");
    assert_int_equal(READ(&v, &err, "m", "-t", "f", "--note="), LB_OK);
    assert_string_equal(v.note, "");
    REFUSE("--text \"\" names nothing", "m", "-t", "");
    REFUSE("--text \"\" names nothing", "m", "--text=");
    REFUSE("--layer \"\" names nothing", "m", "-t", "f", "--layer", "");
    REFUSE("MODEL \"\" names nothing", "", "-t", "f");
    REFUSE("REST \"\" names nothing", "m", "-t", "f", "");
}

static void two_dashes_end_the_flags(void **state)
{
    (void)state;
    values v;
    lb_error err;
    assert_int_equal(READ(&v, &err, "-t", "f", "--", "--ctx", "-h"), LB_OK);
    assert_string_equal(v.model, "--ctx");
    assert_string_equal(v.rest.items[0], "-h");
    REFUSE("--text needs a value", "m", "--text", "--");
}

static void misuse_is_one_sentence(void **state)
{
    (void)state;
    REFUSE("MODEL is missing: the model", "-t", "f");
    REFUSE("--text FILE is missing: the text", "m");
    REFUSE("unknown flag --cxt; did you mean --ctx?", "m", "-t", "f", "--cxt", "3");
    REFUSE("unknown flag --cxt; did you mean --ctx?", "m", "-t", "f", "--cxt=3");
    REFUSE("unknown flag --nothing-like-it", "m", "--nothing-like-it");
    REFUSE("unknown flag -t5", "m", "-t5");
    REFUSE("--text needs a value", "m", "--text");
    REFUSE("--text needs a value", "m", "--text", "--ctx", "5");
    REFUSE("--exact takes no value, but has \"1\"", "m", "--exact=1");
    REFUSE("--mode wants one of fast|default|best, not \"bes\"", "m", "--mode", "bes");
    REFUSE("--mode wants one of fast|default|best, not \"\"", "m", "--mode=");
    REFUSE("--cpu wants one of " LB_CPU_NAMES ", not \"sse\"", "m", "--cpu=sse");
}

static void bad_numbers(void **state)
{
    (void)state;
    static char *const sizes[] = {
        "", "x", "1", "4097", "-3", "3.5", "0x10", " 5", "5 ", "1e3", "99999999999999999999999"};
    static char *const doubles[] = {"", "x", "nan", "inf", "0x1p3", "1e999", "-1.5", "1.2.3", "--1", "1e"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char word[64], sentence[128];
        snprintf(word, sizeof word, "--ctx=%s", sizes[i]);
        snprintf(sentence, sizeof sentence, "--ctx wants a whole number from 2 to 4096, not \"%s\"",
                 sizes[i]);
        REFUSE(sentence, "m", word);
    }
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        char word[64], sentence[128];
        snprintf(word, sizeof word, "--temp=%s", doubles[i]);
        snprintf(sentence, sizeof sentence, "--temp wants a number of at least -1, not \"%s\"", doubles[i]);
        REFUSE(sentence, "m", word);
    }
    REFUSE("--threads wants a whole number from 1 to 1024, not \"0\"", "m", "--threads", "0");
}

static void too_many(void **state)
{
    (void)state;
    char *words[80] = {"m", "-t", "f"};
    for (int i = 3; i < 3 + LB_ARG_LIST_MAX + 1; i++)
        words[i] = "r";
    refuse("REST is given more than 64 times", words);
    static const lb_arg single[] = {{"MODEL", LB_ARG_OPERAND, offsetof(values, model), .help = "the model"}};
    const lb_arg_spec one = {"one", "One.", single, 1, sizeof(values), "lowbit one m", NULL, NULL};
    values v;
    lb_error err;
    assert_int_equal(lb_args_read(&one, 3, (char *[]){"one", "a", "b"}, NULL, &v, &err), LB_EINVAL);
    assert_string_equal(err.msg, "\"b\" is one word too many");
}

static void the_environment_caps_the_cpu_and_the_flag_wins(void **state)
{
    (void)state;
    values v;
    lb_error err;
    char flag[32], *words[] = {"m", "-t", "f", NULL}, *flagged[] = {"m", "-t", "f", flag, NULL};
    snprintf(flag, sizeof flag, "--cpu=%s", lb_cpu_level_name(LB_CPU_BEST));
    assert_int_equal(read_with("ref", &v, &err, words), LB_OK);
    assert_int_equal(v.common.level, LB_CPU_REF);
    assert_int_equal(read_with("ref", &v, &err, flagged), LB_OK);
    assert_int_equal(v.common.level, LB_CPU_BEST);
    assert_int_equal(read_with("", &v, &err, words), LB_OK);
    assert_int_equal(v.common.level, LB_CPU_BEST);
    assert_int_equal(read_with("fast", &v, &err, words), LB_EINVAL);
    assert_non_null(strstr(err.msg, "LB_CPU is \"fast\""));
}

static void help_wants_nothing_else_and_shows_everything(void **state)
{
    (void)state;
    values v;
    lb_error err;
    lb_text text = {0};
    assert_int_equal(READ(&v, &err, "-h", "--nonsense"), LB_OK);
    assert_true(v.common.help);
    lb_args_help(&spec, &text);
    assert_int_equal(
        strncmp(text.data, "usage: lowbit score MODEL [REST...] -t FILE [flags]\n\nScores a model.\n\n", 70),
        0);
    assert_non_null(strstr(text.data, "  -t, --text FILE             the text (needed)\n"));
    assert_non_null(strstr(text.data, "  --ctx N                     tokens in a window (default: 512)\n"));
    assert_non_null(strstr(text.data, "  --mode fast|default|best    how hard to try (default: default)\n"));
    assert_non_null(
        strstr(text.data, "--seed N                    seed of everything random (default: 42)\n"));
    assert_non_null(strstr(text.data, "\nExample:\n  lowbit score m -t f\n"));
    for (const char *line = text.data; *line;) { /* fits a terminal */
        size_t length = strcspn(line, "\n");
        assert_true(length <= 100);
        line += length + (line[length] == '\n');
    }
    lb_text_free(&text);
}

/* Rows of a group come after the command's own, and give way to those of the same name. */
static void shared_rows(void **state)
{
    (void)state;
    static const lb_arg group_rows[] = {
        {"--ctx", LB_ARG_SIZE, offsetof(values, ctx), .low = 2, .preset = "512", .help = "the group's ctx"},
        {"--temp", LB_ARG_DOUBLE, offsetof(values, temp), .preset = "0.5", .help = "the group's temp"}};
    static const lb_arg own[] = {
        {"--exact", LB_ARG_FLAG, offsetof(values, exact), .help = "own"},
        {"--ctx", LB_ARG_STRING, offsetof(values, text), .value = "LIST", .help = "own ctx"}};
    static const lb_arg_group group = {"Group", group_rows, 2};
    const lb_arg_spec two = {"two", "Two.", own, 2, sizeof(values), "lowbit two", NULL, &group};
    values v;
    lb_error err;
    lb_text text = {0};
    assert_int_equal(lb_args_read(&two, 5, (char *[]){"two", "--ctx", "a,b", "--temp", "2"}, NULL, &v, &err),
                     LB_OK);
    assert_string_equal(v.text, "a,b");
    assert_int_equal(v.ctx, 512);
    assert_true(v.temp == 2.0);
    assert_true(lb_args_given(&two, &v, "--temp") && lb_args_given(&two, &v, "--ctx"));
    assert_false(lb_args_given(&two, &v, "--exact") || lb_args_given(&two, &v, "--seed"));
    lb_args_help(&two, &text);
    assert_non_null(strstr(text.data, "own ctx"));
    assert_null(strstr(text.data, "the group's ctx"));
    assert_non_null(
        strstr(text.data, "\nGroup:\n  --temp N                    the group's temp (default: 0.5)\n"));
    lb_text_free(&text);
}

static void distances_between_words(void **state)
{
    (void)state;
    assert_int_equal(lb_word_distance("", "abc"), 3);
    assert_int_equal(lb_word_distance("abc", "abc"), 0);
    assert_int_equal(lb_word_distance("kitten", "sitting"), 3);
    assert_int_equal(lb_word_distance("quantzie", "quantize"), 1); /* neighbours swapped */
    assert_null(lb_suggest("zebra", NULL, "quantize"));
    assert_string_equal(lb_suggest("quantise", NULL, "quantize"), "quantize");
    assert_string_equal(lb_suggest("evla", lb_suggest("evla", NULL, "run"), "eval"), "eval");
    char word[200];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(lb_suggest(word, NULL, "run"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_kind_and_both_spellings),
        cmocka_unit_test(the_last_one_wins_and_a_value_may_be_a_dash),
        cmocka_unit_test(texts_may_be_empty_and_names_not),
        cmocka_unit_test(two_dashes_end_the_flags),
        cmocka_unit_test(misuse_is_one_sentence),
        cmocka_unit_test(bad_numbers),
        cmocka_unit_test(too_many),
        cmocka_unit_test(the_environment_caps_the_cpu_and_the_flag_wins),
        cmocka_unit_test(help_wants_nothing_else_and_shows_everything),
        cmocka_unit_test(shared_rows),
        cmocka_unit_test(distances_between_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
