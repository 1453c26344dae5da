/* SPDX-License-Identifier: MIT */
#include "train/train_state.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written as they lie in memory");

enum { HEADER_BYTES = 96, ARRAYS = 3 };
static const char magic[8] = {'L', 'B', 'T', 'R', 'A', 'I', 'N', '1'};

/* Where the header's fields are. */
enum {
    AT_STEP = 8,
    AT_WINDOWS = 16,
    AT_TOKENS = 24,
    AT_FLOATS = 32,
    AT_FINGERPRINT = 40,
    AT_LOSS_SUM = 48,
    AT_LOSS_COUNT = 56,
    AT_VALID = 64,
    AT_CHECKSUM = 72
};

static uint64_t get(const uint8_t *header, size_t at)
{
    uint64_t value;
    memcpy(&value, header + at, sizeof value);
    return value;
}

static double get_double(const uint8_t *header, size_t at)
{
    double value;
    memcpy(&value, header + at, sizeof value);
    return value;
}

/* FNV-1a over words of 32 bits; to be continued from array to array. */
static uint64_t add_to_sum(uint64_t sum, const void *data, size_t words)
{
    const uint8_t *at = data;
    for (size_t i = 0; i < words; i++, at += 4) {
        uint32_t word;
        memcpy(&word, at, sizeof word);
        sum = (sum ^ word) * 0x100000001B3u;
    }
    return sum;
}

static const uint64_t FIRST_SUM = 0xCBF29CE484222325u;

/* The header's share, but for the checksum itself. */
static uint64_t sum_header(const uint8_t *header)
{
    const uint64_t sum = add_to_sum(FIRST_SUM, header, AT_CHECKSUM / 4);
    return add_to_sum(sum, header + AT_CHECKSUM + 8, (HEADER_BYTES - AT_CHECKSUM - 8) / 4);
}

uint64_t lb_parameters_fingerprint(const lb_parameters *p)
{
    uint64_t sum = FIRST_SUM;
    for (size_t i = 0; i < p->count; i++) {
        const lb_parameter *one = &p->list[i];
        for (const char *c = one->name; *c; c++)
            sum = (sum ^ (unsigned char)*c) * 0x100000001B3u;
        sum = (sum ^ one->rows) * 0x100000001B3u;
        sum = (sum ^ one->cols) * 0x100000001B3u;
    }
    return sum;
}

lb_status lb_train_state_parse(const uint8_t *data, size_t size, const char *path, uint64_t fingerprint,
                               size_t floats, lb_train_position *position, const uint8_t **arrays,
                               lb_error *err)
{
    if (size < HEADER_BYTES || memcmp(data, magic, sizeof magic) != 0)
        return lb_fail(err, LB_EFORMAT, "%s: is not a training state", path);
    if (get(data, AT_FINGERPRINT) != fingerprint || get(data, AT_FLOATS) != floats)
        return lb_fail(err, LB_EFORMAT, "%s: is the state of another model", path);
    if (floats > (SIZE_MAX - HEADER_BYTES) / (ARRAYS * sizeof(float)) ||
        size != HEADER_BYTES + ARRAYS * sizeof(float) * floats)
        return lb_fail(err, LB_EFORMAT, "%s: has %zu bytes, which is not what %zu numbers take", path, size,
                       floats);
    if (add_to_sum(sum_header(data), data + HEADER_BYTES, ARRAYS * floats) != get(data, AT_CHECKSUM))
        return lb_fail(err, LB_EFORMAT, "%s: is damaged: its checksum is another", path);
    const lb_train_position p = {.step = get(data, AT_STEP),
                                 .windows = get(data, AT_WINDOWS),
                                 .tokens = get(data, AT_TOKENS),
                                 .loss_sum = get_double(data, AT_LOSS_SUM),
                                 .loss_count = get(data, AT_LOSS_COUNT),
                                 .valid_loss = get_double(data, AT_VALID)};
    if (p.step > (uint64_t)1 << 53 || p.tokens > (uint64_t)1 << 62 || p.windows > (uint64_t)1 << 62 ||
        p.loss_count > p.step || !isfinite(p.loss_sum))
        return lb_fail(err, LB_EFORMAT, "%s: says that it is of step %llu, which cannot be", path,
                       (unsigned long long)p.step);
    *position = p;
    *arrays = data + HEADER_BYTES;
    return LB_OK;
}

lb_status lb_train_state_create(const lb_parameters *parameters, lb_train_state *out, lb_error *err)
{
    lb_train_state s = {.position.valid_loss = NAN};
    s.weights = lb_alloc_zero(parameters->floats, sizeof *s.weights);
    s.first = lb_alloc_zero(parameters->floats, sizeof *s.first);
    s.second = lb_alloc_zero(parameters->floats, sizeof *s.second);
    if (!s.weights || !s.first || !s.second) {
        lb_train_state_free(&s);
        return lb_fail(err, LB_ENOMEM, "training: no memory for %zu parameters", parameters->weights);
    }
    *out = s;
    return LB_OK;
}

void lb_train_state_free(lb_train_state *s)
{
    lb_free(s->weights);
    lb_free(s->first);
    lb_free(s->second);
    *s = (lb_train_state){0};
}

lb_status lb_train_state_read(const char *path, const lb_parameters *parameters, lb_train_state *s,
                              lb_error *err)
{
    lb_mapping file;
    const uint8_t *arrays;
    const size_t bytes = parameters->floats * sizeof(float);
    LB_TRY(lb_map_open(path, &file, err));
    const lb_status st =
        lb_train_state_parse(file.data, file.size, path, lb_parameters_fingerprint(parameters),
                             parameters->floats, &s->position, &arrays, err);
    if (st == LB_OK) {
        memcpy(s->weights, arrays, bytes);
        memcpy(s->first, arrays + bytes, bytes);
        memcpy(s->second, arrays + 2 * bytes, bytes);
    }
    lb_map_close(&file);
    return st;
}

lb_status lb_train_state_write(const char *path, const lb_parameters *parameters, const lb_train_state *s,
                               lb_error *err)
{
    const float *const arrays[ARRAYS] = {s->weights, s->first, s->second};
    const struct {
        size_t at;
        uint64_t value;
    } numbers[] = {{AT_STEP, s->position.step},
                   {AT_WINDOWS, s->position.windows},
                   {AT_TOKENS, s->position.tokens},
                   {AT_FLOATS, parameters->floats},
                   {AT_FINGERPRINT, lb_parameters_fingerprint(parameters)},
                   {AT_LOSS_COUNT, s->position.loss_count}};
    uint8_t header[HEADER_BYTES] = {0};
    lb_writer w;
    memcpy(header, magic, sizeof magic);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        memcpy(header + numbers[i].at, &numbers[i].value, sizeof numbers[i].value);
    memcpy(header + AT_LOSS_SUM, &s->position.loss_sum, sizeof s->position.loss_sum);
    memcpy(header + AT_VALID, &s->position.valid_loss, sizeof s->position.valid_loss);
    uint64_t sum = sum_header(header);
    for (size_t i = 0; i < ARRAYS; i++)
        sum = add_to_sum(sum, arrays[i], parameters->floats);
    memcpy(header + AT_CHECKSUM, &sum, sizeof sum);
    LB_TRY(lb_writer_open(path, &w, err));
    lb_status st = lb_writer_put(&w, header, sizeof header, err);
    for (size_t i = 0; st == LB_OK && i < ARRAYS; i++)
        st = lb_writer_put(&w, arrays[i], parameters->floats * sizeof(float), err);
    if (st == LB_OK)
        st = lb_writer_commit(&w, err);
    else
        lb_writer_abandon(&w);
    return st;
}
