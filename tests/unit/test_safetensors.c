/* SPDX-License-Identifier: MIT
 * safetensors: what is written is read back, and everything malformed is refused with its sentence. */
#define _GNU_SOURCE
#include "near.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "broken_corpus.h"
#include "io/safetensors.h"
#include "scratch.h"

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    char prefix[3500];
    const char *tmp = getenv("TMPDIR");
    snprintf(prefix, sizeof prefix, "%s/lb_safetensors", tmp ? tmp : "/tmp");
    return lb_make_unique_directory(prefix, &folder, NULL) == LB_OK ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    lb_status st = lb_remove_directory(folder, NULL);
    lb_free(folder);
    return st == LB_OK ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static lb_status parse_file(const char *path, lb_error *err)
{
    size_t size;
    uint8_t *whole = read_bytes(path, &size);
    uint8_t *data = malloc(size ? size : 1);
    assert_non_null(data);
    memcpy(data, whole, size);
    free(whole);
    lb_tensor_set set = {0};
    lb_status st = lb_safetensors_parse(data, size, path, 0, &set, err);
    if (st != LB_OK) {
        assert_null(set.tensors);
        assert_int_equal(set.count, 0);
    }
    lb_tensor_set_free(&set);
    free(data);
    return st;
}

static void broken_files(void **state)
{
    (void)state;
    assert_true(walk_corpus("safetensors", parse_file) >= 40);
}

static const float floats[6] = {1.0f, -2.0f, 3.5f, 0.0f, -0.0f, 1e-30f};
static const uint16_t halves[3] = {0x3f80, 0xc000, 0x7f80};
static const uint8_t codes[5] = {1, 2, 3, 254, 255};
static const int64_t longs[1] = {-7};
static const uint8_t eighths[4] = {0x38, 0xb8, 0x7e, 0x80}; /* 1, -1, 448, -0; as E5M2 0.5, -0.5, NaN, -0 */
static const lb_tensor_out written[] = {
    {"z.floats", LB_DTYPE_F32, 2, {2, 3}, floats, sizeof floats},
    {"codes \"quoted\" \xc3\xa9", LB_DTYPE_U8, 1, {5}, codes, sizeof codes},
    {"a.halves", LB_DTYPE_BF16, 4, {1, 1, 3, 1}, halves, sizeof halves},
    {"scalar", LB_DTYPE_I64, 0, {0}, longs, sizeof longs},
    {"nothing", LB_DTYPE_F16, 2, {0, 9}, NULL, 0},
    {"e4m3", LB_DTYPE_F8_E4M3, 2, {2, 2}, eighths, sizeof eighths},
    {"e5m2", LB_DTYPE_F8_E5M2, 1, {4}, eighths, sizeof eighths},
};
enum { WRITTEN = sizeof written / sizeof *written };

static void round_trip(void **state)
{
    (void)state;
    lb_error err;
    lb_tensor_set set;
    float got[6];
    const char *path = in_folder("model.safetensors");
    if (lb_safetensors_write(path, written, WRITTEN, &err) != LB_OK)
        fail_msg("%s", err.msg);
    if (lb_safetensors_open(&path, 1, &set, &err) != LB_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(set.count, WRITTEN);
    assert_string_equal(set.file_names[0], path);
    for (size_t i = 0; i < WRITTEN; i++) {
        const lb_tensor *t = lb_tensor_find(&set, written[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, written[i].dtype);
        assert_int_equal(t->rank, written[i].rank);
        assert_int_equal(t->bytes, written[i].bytes);
        for (unsigned d = 0; d < t->rank; d++)
            assert_int_equal(t->shape[d], written[i].shape[d]);
        if (t->bytes)
            assert_memory_equal(t->data, written[i].data, t->bytes);
    }
    assert_int_equal(lb_tensor_read(lb_tensor_find(&set, "z.floats"), 0, 2, got, &err), LB_OK);
    same_array(got, floats, 6);
    assert_int_equal(lb_tensor_read(lb_tensor_find(&set, "e4m3"), 0, 2, got, &err), LB_OK);
    same_array(got, ((const float[]){1.0f, -1.0f, 448.0f, -0.0f}), 4);
    assert_int_equal(lb_tensor_read(lb_tensor_find(&set, "e5m2"), 0, 1, got, &err), LB_OK);
    same_array(got, ((const float[]){0.5f, -0.5f, NAN, -0.0f}), 4);
    lb_tensor_forget(&set, lb_tensor_find(&set, "z.floats"));
    assert_int_equal(lb_tensor_read(lb_tensor_find(&set, "z.floats"), 0, 2, got, &err), LB_OK);
    same_array(got, floats, 6);
    lb_tensor_set_free(&set);
}

/* The exact bytes: the format's own layout, in the order given, padded to a multiple of 8. */
static void written_bytes(void **state)
{
    (void)state;
    size_t size;
    const char *header = "{\"__metadata__\":{\"format\":\"lowbit\"},"
                         "\"b\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
                         "\"a\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[5,11]}}";
    const lb_tensor_out two[] = {{"b", LB_DTYPE_U8, 1, {5}, codes, sizeof codes},
                                 {"a", LB_DTYPE_BF16, 1, {3}, halves, sizeof halves}};
    const char *path = in_folder("bytes.safetensors");
    assert_int_equal(lb_safetensors_write(path, two, 2, NULL), LB_OK);
    uint8_t *data = read_bytes(path, &size);
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    assert_int_equal(size, 8 + padded + sizeof codes + sizeof halves);
    assert_int_equal(data[0] | data[1] << 8, padded);
    assert_memory_equal(data + 8, header, length);
    for (size_t i = length; i < padded; i++)
        assert_int_equal(data[8 + i], ' ');
    assert_memory_equal(data + 8 + padded, codes, sizeof codes);
    assert_memory_equal(data + 8 + padded + sizeof codes, halves, sizeof halves);
    free(data);
}

static void refuse_write(const lb_tensor_out *tensors, size_t count, const char *wanted)
{
    lb_error err;
    const char *path = in_folder("refused.safetensors");
    assert_int_equal(lb_safetensors_write(path, tensors, count, &err), LB_EINVAL);
    if (!strstr(err.msg, wanted))
        fail_msg("\"%s\" lacks \"%s\"", err.msg, wanted);
    assert_false(lb_path_exists(path));
}

static void writes_refused(void **state)
{
    (void)state;
    lb_tensor_out two[2] = {written[0], written[0]};
    refuse_write(two, 2, "two tensors are named \"z.floats\"");
    two[0].name = "__metadata__";
    refuse_write(two, 1, "reserved");
    two[0] = written[0];
    two[0].bytes--;
    refuse_write(two, 1, "comes with 23 bytes, its shape needs 24");
    two[0] = written[0];
    two[0].dtype = LB_DTYPE_Q8_0;
    refuse_write(two, 1, "a dtype that safetensors does not know");
    two[0] = written[0];
    two[0].rank = 5;
    refuse_write(two, 1, "5 dimensions");
    two[0] = written[0];
    two[0].name = "\xff";
    refuse_write(two, 1, "UTF-8");
}

static void shards(void **state)
{
    (void)state;
    lb_error err;
    lb_tensor_set set;
    char one[4096], other[4096];
    const char *paths[2] = {one, other};
    snprintf(one, sizeof one, "%s", in_folder("one.safetensors"));
    snprintf(other, sizeof other, "%s", in_folder("other.safetensors"));
    assert_int_equal(lb_safetensors_write(one, written, 2, NULL), LB_OK);
    assert_int_equal(lb_safetensors_write(other, written + 2, WRITTEN - 2, NULL), LB_OK);
    assert_int_equal(lb_safetensors_open(paths, 2, &set, &err), LB_OK);
    assert_int_equal(set.count, WRITTEN);
    assert_int_equal(lb_tensor_find(&set, "z.floats")->file, 0);
    assert_int_equal(lb_tensor_find(&set, "a.halves")->file, 1);
    for (size_t i = 1; i < set.count; i++)
        assert_true(strcmp(set.tensors[i - 1].name, set.tensors[i].name) < 0);
    lb_tensor_set_free(&set);
    assert_int_equal(lb_safetensors_write(other, written + 1, 3, NULL), LB_OK);
    assert_int_equal(lb_safetensors_open(paths, 2, &set, &err), LB_EFORMAT);
    assert_non_null(strstr(err.msg, "two tensors are named \"codes"));
    paths[1] = in_folder("absent.safetensors");
    assert_int_equal(lb_safetensors_open(paths, 2, &set, &err), LB_EIO);
}

/* Cut after every byte: never good, never a crash; the memory behind the cut does not exist. */
static void truncated(void **state)
{
    (void)state;
    size_t size;
    const char *path = in_folder("whole.safetensors");
    assert_int_equal(lb_safetensors_write(path, written, WRITTEN, NULL), LB_OK);
    uint8_t *whole = read_bytes(path, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *data = malloc(cut ? cut : 1);
        assert_non_null(data);
        memcpy(data, whole, cut);
        lb_error err = {LB_OK, ""};
        lb_tensor_set set = {0};
        assert_int_equal(lb_safetensors_parse(data, cut, "cut", 0, &set, &err), LB_EFORMAT);
        assert_true(strncmp(err.msg, "cut: ", 5) == 0);
        free(data);
    }
    free(whole);
}

static void no_memory(void **state)
{
    (void)state;
    size_t k = 1;
    char path[4096];
    const char *paths = path;
    snprintf(path, sizeof path, "%s", in_folder("memory.safetensors"));
    const size_t files = scratch_count(in_folder(""));
    for (lb_status st = LB_ENOMEM; st != LB_OK; k++) {
        lb_error err = {LB_OK, ""};
        lb_alloc_fail_at(k);
        st = lb_safetensors_write(path, written, WRITTEN, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK || (st == LB_ENOMEM && err.status == LB_ENOMEM));
        assert_int_equal(scratch_count(in_folder("")), files + (st == LB_OK)); /* nothing temporary */
    }
    assert_true(k > 4 && lb_path_exists(path));
    k = 1;
    for (lb_status st = LB_ENOMEM; st != LB_OK; k++) {
        lb_tensor_set set = {0};
        lb_alloc_fail_at(k);
        st = lb_safetensors_open(&paths, 1, &set, NULL);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK || (st == LB_ENOMEM && !set.tensors));
        lb_tensor_set_free(&set);
    }
    assert_true(k > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files),   cmocka_unit_test(round_trip), cmocka_unit_test(written_bytes),
        cmocka_unit_test(writes_refused), cmocka_unit_test(shards),     cmocka_unit_test(truncated),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
