/* SPDX-License-Identifier: MIT */
#include "train/token_file.h"

#include <string.h>

enum { HEADER_BYTES = 32, VERSION = 1 };
static const char magic[8] = {'L', 'B', 'T', 'O', 'K', 'E', 'N', 'S'};

static uint64_t little(const uint8_t *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static void put_little(uint8_t *bytes, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++, value >>= 8)
        bytes[i] = (uint8_t)value;
}

lb_status lb_token_view_parse(const uint8_t *data, size_t size, const char *path, lb_token_view *out,
                              lb_error *err)
{
    if (size < HEADER_BYTES || memcmp(data, magic, sizeof magic) != 0)
        return lb_fail(err, LB_EFORMAT, "%s: is not a file of tokens", path);
    const uint64_t version = little(data + 8, 4), id_bytes = little(data + 12, 4);
    const uint64_t vocab = little(data + 16, 8);
    const size_t bytes = size - HEADER_BYTES;
    if (version != VERSION)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: tokens of version %llu, want %d", path,
                       (unsigned long long)version, VERSION);
    if (id_bytes != 2 && id_bytes != 4)
        return lb_fail(err, LB_EFORMAT, "%s: ids of %llu bytes, want 2 or 4", path,
                       (unsigned long long)id_bytes);
    if (bytes % id_bytes != 0)
        return lb_fail(err, LB_EFORMAT, "%s: ends inside an id", path);
    if (vocab == 0 || vocab > UINT32_MAX || (id_bytes == 2 && vocab > 1 << 16))
        return lb_fail(err, LB_EFORMAT, "%s: a vocabulary of %llu does not go with ids of %llu bytes", path,
                       (unsigned long long)vocab, (unsigned long long)id_bytes);
    *out = (lb_token_view){data + HEADER_BYTES, (size_t)id_bytes, bytes / (size_t)id_bytes, (size_t)vocab};
    return LB_OK;
}

void lb_token_view_read(const lb_token_view *view, size_t first, size_t n, uint32_t *out)
{
    const uint8_t *at = view->ids + first * view->id_bytes;
    for (size_t i = 0; i < n; i++, at += view->id_bytes)
        out[i] = (uint32_t)little(at, view->id_bytes);
}

lb_status lb_token_file_open(const char *path, lb_token_file *out, lb_error *err)
{
    lb_token_file file;
    LB_TRY(lb_map_open(path, &file.mapping, err));
    const lb_status st = lb_token_view_parse(file.mapping.data, file.mapping.size, path, &file.view, err);
    if (st == LB_OK)
        *out = file;
    else
        lb_map_close(&file.mapping);
    return st;
}

void lb_token_file_close(lb_token_file *file)
{
    if (file->mapping.data)
        lb_map_close(&file->mapping);
    *file = (lb_token_file){0};
}

lb_status lb_token_writer_open(const char *path, size_t vocab, lb_token_writer *out, lb_error *err)
{
    uint8_t header[HEADER_BYTES] = {0};
    lb_token_writer w = {.vocab = vocab, .id_bytes = vocab > 1 << 16 ? 4 : 2};
    memcpy(header, magic, sizeof magic);
    put_little(header + 8, 4, VERSION);
    put_little(header + 12, 4, w.id_bytes);
    put_little(header + 16, 8, vocab);
    LB_TRY(lb_writer_open(path, &w.writer, err));
    const lb_status st = lb_writer_put(&w.writer, header, sizeof header, err);
    if (st == LB_OK)
        *out = w;
    else
        lb_writer_abandon(&w.writer);
    return st;
}

lb_status lb_token_writer_put(lb_token_writer *w, const uint32_t *ids, size_t n, lb_error *err)
{
    enum { PIECE = 4096 };
    uint8_t bytes[PIECE * 4];
    for (size_t at = 0; at < n; at += PIECE) {
        const size_t count = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < count; i++) {
            if (ids[at + i] >= w->vocab)
                return lb_fail(err, LB_EINVAL, "token %u does not fit the vocabulary of %zu", ids[at + i],
                               w->vocab);
            put_little(bytes + i * w->id_bytes, w->id_bytes, ids[at + i]);
        }
        LB_TRY(lb_writer_put(&w->writer, bytes, count * w->id_bytes, err));
        w->count += count;
    }
    return LB_OK;
}
