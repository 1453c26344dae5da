/* SPDX-License-Identifier: MIT
 *
 * Tokens on disk, packed: a header of 32 bytes, then the ids, all little endian.
 *
 *   0  "LBTOKENS"     8  u32 version (1)     12  u32 bytes of an id (2 or 4)
 *   16 u64 vocabulary: every id is less than this          24 zeros
 */
#ifndef LB_TRAIN_TOKEN_FILE_H
#define LB_TRAIN_TOKEN_FILE_H

#include "base/file.h"

typedef struct lb_token_view {
    const uint8_t *ids;
    size_t id_bytes, count, vocab;
} lb_token_view;

/* Looks at a whole file's bytes; `path` is for messages. This is the entry point that is fuzzed. */
lb_status lb_token_view_parse(const uint8_t *data, size_t size, const char *path, lb_token_view *out,
                              lb_error *err);

/* Ids [first, first + n) of the view, which has them. They are as the file has them: an id outside the vocabulary is
 * noticed by whoever looks it up. */
void lb_token_view_read(const lb_token_view *view, size_t first, size_t n, uint32_t *out);

typedef struct lb_token_file {
    lb_mapping mapping;
    lb_token_view view;
} lb_token_file;

lb_status lb_token_file_open(const char *path, lb_token_file *out, lb_error *err);
void lb_token_file_close(lb_token_file *file);

/* lb_token_writer_put as often as it takes, then lb_writer_commit(&w.writer), or lb_writer_abandon. */
typedef struct lb_token_writer {
    lb_writer writer;
    size_t vocab, id_bytes, count;
} lb_token_writer;

lb_status lb_token_writer_open(const char *path, size_t vocab, lb_token_writer *out, lb_error *err);
lb_status lb_token_writer_put(lb_token_writer *writer, const uint32_t *ids, size_t n, lb_error *err);

#endif
