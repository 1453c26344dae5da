/* SPDX-License-Identifier: MIT */
#include "train/corpus.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/partial.h"
#include "base/thread.h"
#include "io/checkpoint.h"
#include "io/tokenizer.h"
#include "train/bpe_train.h"
#include "train/text_chunks.h"

enum { CHUNK_BYTES = 1 << 19, CHUNKS_AT_ONCE = 16, MAX_TEXTS = 100000, MAX_TOKENIZER_BYTES = 256 << 20 };

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "training text: no memory");
}

/* ---- The tokenizer -------------------------------------------------------------------------------------- */

/* Every so many chunks of a text are counted, so that about sample_bytes of all of it are. */
static lb_status count_text(const lb_mapping *text, size_t stride, size_t *chunk, lb_word_counts *counts,
                            const lb_progress *progress, lb_error *err)
{
    const char *bytes = (const char *)text->data;
    for (size_t begin = 0, end; begin < text->size; begin = end, ++*chunk) {
        end = lb_text_chunk_end(bytes, text->size, begin, CHUNK_BYTES);
        if (*chunk % stride != 0)
            continue;
        LB_TRY(lb_word_counts_add(counts, bytes + begin, end - begin, LB_SEPARATOR, err));
        LB_TRY(lb_progress_tell(progress, "counting words", end, text->size, err));
    }
    return LB_OK;
}

static lb_status train_tokenizer(const lb_corpus_source *source, const lb_mapping *texts,
                                 const lb_progress *progress, json_t **tokenizer, json_t **tokenizer_config,
                                 lb_error *err)
{
    lb_word_counts counts;
    lb_merges merges = {0};
    size_t bytes = 0, chunk = 0;
    lb_status st = LB_OK;
    if (source->vocab < LB_LEAST_VOCAB)
        return lb_fail(err, LB_EINVAL, "a tokenizer of %zu tokens: it needs at least the bytes and %s, %d",
                       source->vocab, LB_SEPARATOR, LB_LEAST_VOCAB);
    LB_TRY(lb_word_counts_create(&counts, err));
    for (size_t i = 0; i < source->text_count; i++)
        bytes += texts[i].size;
    const size_t stride =
        source->sample_bytes > 0 && bytes > source->sample_bytes ? bytes / source->sample_bytes : 1;
    for (size_t i = 0; i < source->text_count; i++)
        LB_GO(count_text(&texts[i], stride, &chunk, &counts, progress, err));
    LB_GO(lb_bpe_train(&counts, source->vocab - 1, progress, &merges, err));
    LB_GO(lb_bpe_describe(&merges, tokenizer, tokenizer_config, err));
done:
    lb_free(merges.list);
    lb_word_counts_free(&counts);
    return st;
}

static lb_status take_tokenizer(const char *model, json_t **tokenizer, json_t **tokenizer_config,
                                lb_error *err)
{
    lb_checkpoint checkpoint;
    LB_TRY(lb_checkpoint_open(model, &checkpoint, err));
    lb_status st = LB_OK;
    if (!checkpoint.tokenizer)
        st = lb_fail(err, LB_EFORMAT, "%s: has no tokenizer", model);
    else {
        *tokenizer = json_incref(checkpoint.tokenizer);
        *tokenizer_config = json_incref(checkpoint.tokenizer_config);
    }
    lb_checkpoint_close(&checkpoint);
    return st;
}

/* ---- Tokens --------------------------------------------------------------------------------------------- */

/* Some chunks of a text, tokenized side by side. */
typedef struct encode_job {
    const lb_tokenizer *tokenizer;
    const char *text;
    size_t ends[CHUNKS_AT_ONCE + 1];
    uint32_t *ids[CHUNKS_AT_ONCE];
    size_t counts[CHUNKS_AT_ONCE];
    lb_status status[CHUNKS_AT_ONCE];
    lb_error errors[CHUNKS_AT_ONCE];
} encode_job;

static void encode_chunks(void *arg, size_t begin, size_t end)
{
    encode_job *j = arg;
    for (size_t i = begin; i < end; i++)
        j->status[i] = lb_tokenizer_encode(j->tokenizer, j->text + j->ends[i], j->ends[i + 1] - j->ends[i],
                                           LB_ENCODE_PARSE_SPECIAL, &j->ids[i], &j->counts[i], &j->errors[i]);
}

static lb_status take_ids(encode_job *j, size_t chunks, lb_token_writer *writer, lb_error *err)
{
    lb_status st = LB_OK;
    for (size_t i = 0; i < chunks; i++) {
        if (st == LB_OK && j->status[i] != LB_OK) {
            st = j->status[i];
            if (err)
                *err = j->errors[i];
        }
        if (j->status[i] != LB_OK)
            continue;
        if (st == LB_OK)
            st = lb_token_writer_put(writer, j->ids[i], j->counts[i], err);
        lb_ids_free(j->ids[i]);
    }
    return st;
}

static lb_status encode_text(const lb_tokenizer *tokenizer, const lb_mapping *text, const char *stage,
                             const lb_progress *progress, lb_token_writer *writer, lb_error *err)
{
    encode_job *j;
    lb_status st = LB_OK;
    LB_TRY(lb_alloc_array(&j, 1, sizeof *j, "training text", err));
    j->tokenizer = tokenizer;
    j->text = (const char *)text->data;
    for (size_t at = 0; at < text->size;) {
        size_t chunks = 0;
        j->ends[0] = at;
        for (; chunks < CHUNKS_AT_ONCE && at < text->size; chunks++)
            j->ends[chunks + 1] = at = lb_text_chunk_end(j->text, text->size, at, CHUNK_BYTES);
        lb_parallel_for(chunks, 1, encode_chunks, j);
        LB_GO(take_ids(j, chunks, writer, err));
        LB_GO(lb_progress_tell(progress, stage, at, text->size, err));
        lb_map_forget(text, 0, at);
    }
done:
    lb_free(j);
    return st;
}

/* One file of tokens, and a line about it. */
static lb_status write_tokens(const lb_tokenizer *tokenizer, const lb_mapping *text, const char *folder,
                              const char *name, const lb_progress *progress, json_t *about, lb_error *err)
{
    lb_token_writer writer;
    char stage[64], *path = lb_path_join(folder, name);
    if (!path)
        return no_memory(err);
    snprintf(stage, sizeof stage, "tokenizing %s", name);
    lb_status st = lb_token_writer_open(path, lb_tokenizer_vocab_size(tokenizer), &writer, err);
    lb_free(path);
    LB_TRY(st);
    st = encode_text(tokenizer, text, stage, progress, &writer, err);
    if (st == LB_OK)
        st = lb_writer_commit(&writer.writer, err);
    else
        lb_writer_abandon(&writer.writer);
    LB_TRY(st);
    json_t *line = json_pack("{s:s, s:I, s:I}", "file", name, "bytes_of_text", (json_int_t)text->size,
                             "tokens", (json_int_t)writer.count);
    return json_array_append_new(about, line) == 0 ? LB_OK : no_memory(err);
}

/* ---- The folder ----------------------------------------------------------------------------------------- */

static lb_status save(const char *folder, const char *name, const json_t *json, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    if (!path)
        return no_memory(err);
    const lb_status st = json ? lb_json_save(path, json, err) : LB_OK;
    lb_free(path);
    return st;
}

static void shard_name(size_t index, char out[32])
{
    snprintf(out, 32, "train-%05zu.tokens", index);
}

/* Everything, into a folder that is there. */
static lb_status fill(const char *folder, const lb_corpus_source *source, const lb_mapping *texts,
                      const lb_mapping *valid, const lb_progress *progress, lb_error *err)
{
    json_t *spec = NULL, *config = NULL, *train = json_array(), *held = json_array(), *about = NULL;
    lb_tokenizer *tokenizer = NULL;
    lb_status st = LB_OK;
    char name[32];
    if (source->tokenizer)
        LB_GO(take_tokenizer(source->tokenizer, &spec, &config, err));
    else
        LB_GO(train_tokenizer(source, texts, progress, &spec, &config, err));
    LB_GO(lb_tokenizer_create(spec, config, "the tokenizer", &tokenizer, err));
    LB_GO(save(folder, "tokenizer.json", spec, err));
    LB_GO(save(folder, "tokenizer_config.json", config, err));
    for (size_t i = 0; i < source->text_count; i++) {
        shard_name(i, name);
        LB_GO(write_tokens(tokenizer, &texts[i], folder, name, progress, train, err));
    }
    if (valid)
        LB_GO(write_tokens(tokenizer, valid, folder, "valid.tokens", progress, held, err));
    about = json_pack("{s:i, s:I, s:O, s:O}", "version", 1, "vocab",
                      (json_int_t)lb_tokenizer_vocab_size(tokenizer), "train", train, "valid", held);
    if (!about) {
        st = no_memory(err);
        goto done;
    }
    LB_GO(save(folder, "corpus.json", about, err));
done:
    lb_tokenizer_destroy(tokenizer);
    json_decref(spec);
    json_decref(config);
    json_decref(train);
    json_decref(held);
    json_decref(about);
    return st;
}

lb_status lb_corpus_make(const char *folder, const lb_corpus_source *source, const lb_progress *progress,
                         lb_error *err)
{
    lb_partial partial = {0};
    lb_mapping *texts, valid = {0};
    size_t opened = 0;
    lb_status st = LB_OK;
    if (source->text_count == 0 || source->text_count > MAX_TEXTS)
        return lb_fail(err, LB_EINVAL, "training text: %zu files, want 1 to %d", source->text_count,
                       MAX_TEXTS);
    if (lb_path_exists(folder))
        return lb_fail(err, LB_EEXIST, "%s exists already", folder);
    LB_TRY(lb_alloc_array(&texts, source->text_count, sizeof *texts, "training text", err));
    for (; opened < source->text_count; opened++) {
        LB_GO(lb_map_open(source->texts[opened], &texts[opened], err));
        if (texts[opened].size == 0)
            LB_GO(lb_fail(err, LB_EINVAL, "%s: is empty", source->texts[opened++]));
    }
    if (source->valid) {
        LB_GO(lb_map_open(source->valid, &valid, err));
        if (valid.size == 0)
            LB_GO(lb_fail(err, LB_EINVAL, "%s: is empty", source->valid));
    }
    LB_GO(lb_partial_begin(folder, &partial, err));
    LB_GO(fill(partial.path, source, texts, source->valid ? &valid : NULL, progress, err));
    LB_GO(lb_partial_commit(&partial, err));
done:
    while (opened > 0)
        lb_map_close(&texts[--opened]);
    if (valid.data)
        lb_map_close(&valid);
    lb_free(texts);
    lb_partial_abandon(&partial);
    return st;
}

/* ---- Reading -------------------------------------------------------------------------------------------- */

static lb_status load(const char *folder, const char *name, size_t max_bytes, json_t **out, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    if (!path)
        return no_memory(err);
    const lb_status st = lb_json_load(path, max_bytes, out, err);
    lb_free(path);
    return st;
}

/* A file of tokens, which must be what corpus.json says of it. */
static lb_status open_tokens(const char *folder, const char *name, const json_t *line, size_t vocab,
                             lb_token_file *out, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    size_t count;
    lb_status st =
        path ? lb_json_size(line, "tokens", 0, SIZE_MAX / 8, 0, "corpus.json", &count, err) : no_memory(err);
    if (st == LB_OK)
        st = lb_token_file_open(path, out, err);
    if (st == LB_OK && (out->view.count != count || out->view.vocab != vocab)) {
        st =
            lb_fail(err, LB_EFORMAT, "%s: has %zu tokens of a vocabulary of %zu, corpus.json says %zu of %zu",
                    path, out->view.count, out->view.vocab, count, vocab);
        lb_token_file_close(out);
    }
    lb_free(path);
    return st;
}

static lb_status open_all(const char *folder, lb_corpus *c, lb_error *err)
{
    char name[32];
    LB_TRY(load(folder, "corpus.json", 64 << 20, &c->about, err));
    const json_t *train = json_object_get(c->about, "train"), *valid = json_object_get(c->about, "valid");
    LB_TRY(lb_json_size(c->about, "vocab", 1, UINT32_MAX, 0, "corpus.json", &c->vocab, err));
    LB_TRY(load(folder, "tokenizer.json", MAX_TOKENIZER_BYTES, &c->tokenizer, err));
    char *config = lb_path_join(folder, "tokenizer_config.json");
    if (!config)
        return no_memory(err);
    lb_status st =
        lb_path_exists(config) ? lb_json_load(config, MAX_TOKENIZER_BYTES, &c->tokenizer_config, err) : LB_OK;
    lb_free(config);
    LB_TRY(st);
    const size_t count = json_array_size(train);
    if (count == 0 || count > MAX_TEXTS)
        return lb_fail(err, LB_EFORMAT, "%s/corpus.json: lists %zu training texts", folder, count);
    c->train = lb_alloc_zero(count, sizeof *c->train);
    if (!c->train)
        return no_memory(err);
    for (; c->train_count < count; c->train_count++) {
        shard_name(c->train_count, name);
        LB_TRY(open_tokens(folder, name, json_array_get(train, c->train_count), c->vocab,
                           &c->train[c->train_count], err));
        c->tokens += c->train[c->train_count].view.count;
    }
    if (json_array_size(valid) > 0)
        return open_tokens(folder, "valid.tokens", json_array_get(valid, 0), c->vocab, &c->valid, err);
    return LB_OK;
}

lb_status lb_corpus_open(const char *folder, lb_corpus *out, lb_error *err)
{
    lb_corpus c = {0};
    const lb_status st = open_all(folder, &c, err);
    if (st == LB_OK)
        *out = c;
    else
        lb_corpus_close(&c);
    return st;
}

void lb_corpus_close(lb_corpus *c)
{
    for (size_t i = 0; i < c->train_count; i++)
        lb_token_file_close(&c->train[i]);
    lb_free(c->train);
    lb_token_file_close(&c->valid);
    json_decref(c->tokenizer);
    json_decref(c->tokenizer_config);
    json_decref(c->about);
    *c = (lb_corpus){0};
}

static lb_status check_text(const json_t *line, const char *path, const char *folder, lb_error *err)
{
    lb_mapping text;
    size_t bytes;
    LB_TRY(lb_json_size(line, "bytes_of_text", 0, SIZE_MAX / 2, 0, "corpus.json", &bytes, err));
    LB_TRY(lb_map_open(path, &text, err));
    const size_t size = text.size;
    lb_map_close(&text);
    if (line && size == bytes)
        return LB_OK;
    return lb_fail(
        err, LB_EEXIST,
        "%s: was made of other texts than %s; leave the texts out to train on what is there, or choose "
        "another folder",
        folder, path);
}

lb_status lb_corpus_check(const lb_corpus *c, const lb_corpus_source *source, const char *folder,
                          lb_error *err)
{
    const json_t *train = json_object_get(c->about, "train"), *valid = json_object_get(c->about, "valid");
    if (source->text_count > 0 && source->text_count != c->train_count)
        return lb_fail(
            err, LB_EEXIST,
            "%s: was made of %zu texts, not of %zu; leave them out to train on what is there, or choose "
            "another folder",
            folder, c->train_count, source->text_count);
    for (size_t i = 0; i < source->text_count; i++)
        LB_TRY(check_text(json_array_get(train, i), source->texts[i], folder, err));
    return source->valid ? check_text(json_array_get(valid, 0), source->valid, folder, err) : LB_OK;
}
