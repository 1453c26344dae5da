/* SPDX-License-Identifier: MIT
 * Names of formats (exactly the documented ones), and the cutting of rows into groups. */
#include "near.h"
#include "slow_formats.h"

#include "base/rng.h"
#include "formats/format.h"

enum { MOST_NAMES = 256 };

typedef struct known_name {
    char name[LB_FORMAT_NAME_BYTES], canonical[LB_FORMAT_NAME_BYTES];
    unsigned bits;
    size_t group;
    bool symmetric, is_float;
    const char *family;
    size_t scale_bytes; /* of one group */
} known_name;

static known_name known[MOST_NAMES];
static size_t known_count;

static void add(const char *name, const char *canonical, unsigned bits, size_t group, bool symmetric,
                bool is_float)
{
    assert_true(known_count < MOST_NAMES);
    known_name *k = &known[known_count++];
    *k = (known_name){.bits = bits,
                      .group = group,
                      .symmetric = symmetric,
                      .is_float = is_float,
                      .family = "int",
                      .scale_bytes = 2};
    snprintf(k->name, sizeof k->name, "%s", name);
    snprintf(k->canonical, sizeof k->canonical, "%s", canonical);
}

static void add_block(const slow_format *f, const char *name)
{
    add(name, f->name, slow_bits(f->element), f->block, !f->asymmetric, false);
    known[known_count - 1].family = f->nv ? "nv" : "mx";
    known[known_count - 1].scale_bytes = f->rule == SLOW_EXACT ? 4 : 1;
}

/* mxfp8 and mxfp6 mean the element that the paper means by them, also before a suffix. */
static void add_alias(const slow_format *f, const char *name, const char *alias)
{
    char longer[LB_FORMAT_NAME_BYTES + 8];
    if (strncmp(f->name, name, strlen(name)) != 0)
        return;
    snprintf(longer, sizeof longer, "%s%s", alias, f->name + strlen(name));
    add_block(f, longer);
}

/* Every name there is, from the documentation: intB-gG, intB-row, "-asym", and "-sym" for the default; the
 * block formats with their suffixes. */
static int list_names(void **state)
{
    (void)state;
    static const size_t groups[] = {0, 32, 64, 128, 256};
    char plain[LB_FORMAT_NAME_BYTES], longer[LB_FORMAT_NAME_BYTES + 8];
    add("f32", "f32", 32, 0, false, true);
    add("f16", "f16", 16, 0, false, true);
    add("bf16", "bf16", 16, 0, false, true);
    for (unsigned bits = 2; bits <= 8; bits++) {
        for (size_t g = 0; g < 5; g++) {
            if (groups[g])
                snprintf(plain, sizeof plain, "int%u-g%zu", bits, groups[g]);
            else
                snprintf(plain, sizeof plain, "int%u-row", bits);
            add(plain, plain, bits, groups[g], true, false);
            snprintf(longer, sizeof longer, "%s-sym", plain);
            add(longer, plain, bits, groups[g], true, false);
            snprintf(longer, sizeof longer, "%s-asym", plain);
            add(longer, longer, bits, groups[g], false, false);
        }
    }
    static slow_format blocks[SLOW_MOST_FORMATS];
    const size_t count = slow_list_formats(blocks);
    for (size_t i = 0; i < count; i++) {
        add_block(&blocks[i], blocks[i].name);
        add_alias(&blocks[i], "mxfp8-e4m3", "mxfp8");
        add_alias(&blocks[i], "mxfp6-e2m3", "mxfp6");
    }
    return 0;
}

static const known_name *find(const char *name)
{
    for (size_t i = 0; i < known_count; i++)
        if (strcmp(known[i].name, name) == 0)
            return &known[i];
    return NULL;
}

static void every_documented_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < known_count; i++) {
        lb_format f;
        lb_error err;
        assert_int_equal(lb_format_parse(known[i].name, &f, &err), LB_OK);
        assert_string_equal(f.name, known[i].canonical);
        assert_int_equal(f.bits, known[i].bits);
        assert_int_equal(f.group, known[i].group);
        assert_int_equal(lb_format_is_float(&f), known[i].is_float);
        if (known[i].is_float)
            continue;
        assert_int_equal(f.symmetric, known[i].symmetric);
        assert_true(f.params >= 1 && f.params <= LB_FORMAT_MAX_PARAMS);
        assert_string_equal(f.ops->family, known[i].family);
        assert_int_equal(f.element != NULL, strcmp(known[i].family, "int") != 0);
        lb_format again;
        assert_int_equal(lb_format_parse(f.name, &again, &err), LB_OK);
        assert_string_equal(again.name, f.name);
    }
}

/* One to three edits of a valid name: an inserted, removed, changed or doubled character. */
static void mutate(lb_rng *rng, char *name, size_t room)
{
    static const char alphabet[] = "0123456789-+ gintrowasymfxvpeclduh\t\nG.\x7f";
    for (uint64_t edits = 1 + lb_rng_below(rng, 3); edits > 0; edits--) {
        const size_t length = strlen(name), at = (size_t)lb_rng_below(rng, length + 1);
        const char c = alphabet[lb_rng_below(rng, sizeof alphabet - 1)];
        const uint64_t kind = lb_rng_below(rng, 3);
        if (kind == 0 && length + 2 < room) {
            memmove(name + at + 1, name + at, length - at + 1);
            name[at] = c;
        } else if (kind == 1 && at < length) {
            memmove(name + at, name + at + 1, length - at);
        } else if (at < length) {
            name[at] = c;
        }
    }
}

static void check_name(const char *name)
{
    lb_format f;
    lb_error err;
    const known_name *want = find(name);
    const lb_status st = lb_format_parse(name, &f, &err);
    if (st != (want ? LB_OK : LB_EINVAL))
        fail_msg("\"%s\" is %s", name, st == LB_OK ? "accepted" : "refused");
    if (want)
        assert_string_equal(f.name, want->canonical);
}

/* Names that look like one. */
static const char *const close_names[] = {"",
                                          "int",
                                          "int4",
                                          "int4-",
                                          "int4-g",
                                          "int4-g0",
                                          "int4-g00",
                                          "int4-g1",
                                          "int4-g16",
                                          "int4-g032",
                                          "int4-g512",
                                          "int4-g1280",
                                          "int4-g12800",
                                          "int4-g-32",
                                          "int4-g+32",
                                          "int4-g 32",
                                          " int4-g32",
                                          "int4-g32 ",
                                          "int4-g32-",
                                          "int4-g32-a",
                                          "int4-g32asym",
                                          "int1-g32",
                                          "int9-g32",
                                          "int0-g32",
                                          "int04-g32",
                                          "int 4-g32",
                                          "int+4-g32",
                                          "int-4-g32",
                                          "int16-g32",
                                          "int44-g32",
                                          "INT4-g32",
                                          "int4-G32",
                                          "int4-row32",
                                          "int4-rowx",
                                          "int4-row-",
                                          "int4-row ",
                                          "int4-g32-asym-sym",
                                          "int4-g32-asym ",
                                          "int4-g64\n",
                                          "f32 ",
                                          "F32",
                                          "f64",
                                          "bf16-g32",
                                          "fp16",
                                          "int4-g4294967328",
                                          "int4-g18446744073709551648",
                                          "int4-row-asymm",
                                          "mx",
                                          "mxfp",
                                          "mxfp4-",
                                          "mxfp4 ",
                                          "MXFP4",
                                          "mxFP4",
                                          "mxfp4-e2m1",
                                          "mxfp4-g32",
                                          "mxfp4-asym",
                                          "mxfp4-sym",
                                          "mxint4-sym",
                                          "mxfp4-ceil",
                                          "mxfp4-ocp-",
                                          "mxfp4-ocp-even",
                                          "mxfp4-OCP",
                                          "mxfp5",
                                          "mxfp6-e4m3",
                                          "mxfp8-e2m3",
                                          "mxfp8-e3m4",
                                          "mxfp8e4m3",
                                          "mxfp8-e4m3-e4m3",
                                          "mxfp16",
                                          "mxint2",
                                          "mxint5",
                                          "mxint16",
                                          "mxint4-asym-ocp",
                                          "mxint4-asym-asym",
                                          "mxint4-exact-",
                                          "nv",
                                          "nvfp",
                                          "nvfp4-",
                                          "nvfp4-asym",
                                          "nvfp4-ocp",
                                          "nvfp4-g16",
                                          "nvfp6",
                                          "nvfp8",
                                          "nvint8",
                                          "nvint4-sym",
                                          "nvint4-asym-exact",
                                          "nvint4-exact-exact",
                                          "nvint4\n"};

static void nothing_but_the_documented_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof close_names / sizeof *close_names; i++) {
        assert_null(find(close_names[i]));
        check_name(close_names[i]);
    }
    lb_rng rng;
    lb_rng_seed(&rng, 7);
    size_t valid = 0;
    for (int i = 0; i < 200000; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", known[lb_rng_below(&rng, known_count)].name);
        mutate(&rng, name, sizeof name);
        valid += find(name) != NULL;
        check_name(name);
    }
    assert_true(valid > 1000); /* the mutations were near enough to mean something */
}

static void a_refusal_lists_what_there_is(void **state)
{
    (void)state;
    lb_format f;
    lb_error err;
    char endless[4000];
    memset(endless, 'z', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    assert_int_equal(lb_format_parse("int4-g100", &f, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "int4-g100"));
    assert_non_null(strstr(err.msg, "bf16"));
    for (size_t i = 0; lb_format_family(i); i++)
        assert_non_null(strstr(err.msg, lb_format_family(i)->syntax));
    assert_int_equal(lb_format_parse(endless, &f, &err), LB_EINVAL);
    assert_int_equal(lb_format_parse("nonsense", &f, NULL), LB_EINVAL);
    assert_null(lb_format_family(1000));
}

static void groups_tile_the_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < known_count; i++) {
        lb_format f;
        if (known[i].is_float)
            continue;
        assert_int_equal(lb_format_parse(known[i].name, &f, NULL), LB_OK);
        for (size_t cols = 1; cols < 700; cols++) {
            const size_t groups = lb_format_groups(&f, cols);
            size_t total = 0;
            for (size_t g = 0; g < groups; g++) {
                const size_t size = lb_format_group_size(&f, cols, g);
                assert_true(size > 0 && (f.group == 0 || size <= f.group));
                assert_true(g + 1 == groups || size == f.group);
                total += size;
            }
            assert_int_equal(total, cols);
        }
    }
}

/* Bits of the codes rounded up to bytes, a scale for every group, zeros in bits rounded up to bytes. */
static void bytes_of_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < known_count; i++) {
        const known_name *k = &known[i];
        lb_format f;
        assert_int_equal(lb_format_parse(k->name, &f, NULL), LB_OK);
        for (size_t cols = 1; cols < 600; cols += 7) {
            if (k->is_float) {
                assert_int_equal(lb_format_row_bytes(&f, cols), cols * k->bits / 8);
                continue;
            }
            size_t groups = 1;
            if (k->group)
                for (groups = 0; groups * k->group < cols;)
                    groups++;
            size_t want = (cols * k->bits + 7) / 8 + groups * k->scale_bytes;
            if (strcmp(k->family, "int") == 0 && !k->symmetric)
                want += (groups * k->bits + 7) / 8;
            assert_int_equal(lb_format_row_bytes(&f, cols), want);
            const bool shared = strcmp(k->family, "nv") == 0 && k->scale_bytes == 1;
            assert_int_equal(lb_format_has_tensor_scale(&f), shared);
            assert_int_equal(lb_format_tensor_bytes(&f, 3, cols), 3 * want + (shared ? 4 : 0));
        }
    }
}

/* The paper's table 1. */
static void bits_per_weight(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double bits;
        size_t shared;
    } want[] = {{"mxfp8", 8.25, 0},      {"mxfp8-e5m2", 8.25, 0},  {"mxfp6", 6.25, 0},
                {"mxfp6-e3m2", 6.25, 0}, {"mxfp4", 4.25, 0},       {"mxint8", 8.25, 0},
                {"mxint6", 6.25, 0},     {"mxint4", 4.25, 0},      {"nvfp4", 4.5, 4},
                {"nvint4", 4.5, 4},      {"mxint4-asym", 4.25, 0}, {"mxfp4-ocp", 4.25, 0},
                {"mxfp4-exact", 5.0, 0}, {"nvint4-exact", 6.0, 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        lb_format f;
        assert_int_equal(lb_format_parse(want[i].name, &f, NULL), LB_OK);
        const double bytes = (double)lb_format_tensor_bytes(&f, 10, 4096) - (double)want[i].shared;
        assert_true(bytes * 8.0 == 40960.0 * want[i].bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_documented_name),
        cmocka_unit_test(nothing_but_the_documented_names),
        cmocka_unit_test(a_refusal_lists_what_there_is),
        cmocka_unit_test(groups_tile_the_row),
        cmocka_unit_test(bytes_of_a_row),
        cmocka_unit_test(bits_per_weight),
    };
    return cmocka_run_group_tests(tests, list_names, NULL);
}
