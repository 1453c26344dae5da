/* SPDX-License-Identifier: MIT
 * Opening a model: which files a folder has, and what each of them becomes. */
#define _GNU_SOURCE
#include "io/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "io/tokenizer.h"

enum {
    MAX_CONFIG_BYTES = 16 << 20,
    MAX_INDEX_BYTES = 64 << 20,
    MAX_TOKENIZER_BYTES = 256 << 20, /* the largest published ones have some 35 MB */
    MAX_TEMPLATE_BYTES = 4 << 20,
};

/* folder/name, and whether it is there. */
static lb_status find_file(const char *folder, const char *name, char **path, bool *exists, lb_error *err)
{
    *path = lb_path_join(folder, name);
    if (!*path)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a file's name", folder);
    *exists = lb_path_exists(*path);
    return LB_OK;
}

/* The JSON object in folder/name; *out stays NULL when there is no such file. */
static lb_status load_optional(const char *folder, const char *name, size_t max_bytes, json_t **out,
                               lb_error *err)
{
    char *path;
    bool exists;
    LB_TRY(find_file(folder, name, &path, &exists, err));
    lb_status st = exists ? lb_json_load(path, max_bytes, out, err) : LB_OK;
    lb_free(path);
    return st;
}

/* Says why a folder without safetensors cannot be opened, from what it has instead. */
static lb_status fail_without_weights(const char *folder, lb_error *err)
{
    bool pickle = false, gguf = false;
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        pickle |= strncmp(entry->d_name, "pytorch_model", 13) == 0;
        gguf |= dot && strcmp(dot, ".gguf") == 0;
    }
    if (dir)
        closedir(dir);
    if (pickle)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: has pytorch_model.bin only; it must be converted to "
                       "safetensors", folder);
    if (gguf)
        return lb_fail(err, LB_EINVAL, "%s: has no model.safetensors, but a GGUF file: give that file's own "
                       "name", folder);
    return lb_fail(err, LB_EINVAL, "%s: has neither model.safetensors nor model.safetensors.index.json",
                   folder);
}

/* A shard must be a plain file's name inside the folder. */
static lb_status check_shard(const json_t *value, const char *tensor, const char *index, lb_error *err)
{
    const char *shard = json_string_value(value);
    if (!shard || !*shard)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" names no shard", index, tensor);
    if (strchr(shard, '/') || strcmp(shard, ".") == 0 || strcmp(shard, "..") == 0)
        return lb_fail(err, LB_EFORMAT, "%s: shard \"%.100s\" lies outside the folder", index, shard);
    return LB_OK;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The shards that weight_map names, each once, in the order of their names; they point into the map. */
static lb_status list_shards(json_t *weight_map, const char *index, const char ***out, size_t *count,
                             lb_error *err)
{
    const char **shards;
    size_t used = 0, unique = 0;
    LB_TRY(lb_alloc_array(&shards, json_object_size(weight_map), sizeof *shards, index, err));
    for (void *i = json_object_iter(weight_map); i; i = json_object_iter_next(weight_map, i)) {
        lb_status st = check_shard(json_object_iter_value(i), json_object_iter_key(i), index, err);
        if (st != LB_OK) {
            lb_free(shards);
            return st;
        }
        shards[used++] = json_string_value(json_object_iter_value(i));
    }
    if (used)
        qsort(shards, used, sizeof *shards, compare_strings);
    for (size_t i = 0; i < used; i++)
        if (i == 0 || strcmp(shards[i], shards[unique - 1]) != 0)
            shards[unique++] = shards[i];
    *out = shards;
    *count = unique;
    return LB_OK;
}

/* Every tensor of the index must be in the shard that the index names. */
static lb_status check_index(json_t *weight_map, const char *index, const lb_tensor_set *set, lb_error *err)
{
    for (void *i = json_object_iter(weight_map); i; i = json_object_iter_next(weight_map, i)) {
        const char *name = json_object_iter_key(i), *shard = json_string_value(json_object_iter_value(i));
        const lb_tensor *tensor = lb_tensor_find(set, name);
        if (!tensor || strcmp(lb_path_base(set->file_names[tensor->file]), shard) != 0)
            return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" is not in %.100s, where the index puts it",
                           index, name, shard);
    }
    return LB_OK;
}

static lb_status open_paths(const char *folder, const char *index, const char *const *shards, size_t count,
                            lb_tensor_set *out, lb_error *err)
{
    char **paths = lb_alloc_zero(count, sizeof *paths);
    lb_status st = LB_OK;
    if (!paths)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its %zu shards", index, count);
    for (size_t i = 0; i < count; i++) {
        bool exists;
        LB_GO(find_file(folder, shards[i], &paths[i], &exists, err));
        if (!exists)
            LB_GO(lb_fail(err, LB_EFORMAT, "%s: shard %.100s is missing from the folder", index, shards[i]));
    }
    LB_GO(lb_safetensors_open((const char *const *)paths, count, out, err));
done:
    for (size_t i = 0; i < count; i++)
        lb_free(paths[i]);
    lb_free(paths);
    return st;
}

static lb_status open_index(const char *folder, const char *index, lb_tensor_set *out, lb_error *err)
{
    json_t *root;
    const char **shards = NULL;
    size_t count;
    lb_tensor_set set = {0};
    LB_TRY(lb_json_load(index, MAX_INDEX_BYTES, &root, err));
    lb_status st = LB_OK;
    json_t *weight_map = json_object_get(root, "weight_map");
    if (json_object_size(weight_map) == 0)
        LB_GO(lb_fail(err, LB_EFORMAT, "%s: has no \"weight_map\"", index));
    LB_GO(list_shards(weight_map, index, &shards, &count, err));
    LB_GO(open_paths(folder, index, shards, count, &set, err));
    LB_GO(check_index(weight_map, index, &set, err));
    *out = set;
    set = (lb_tensor_set){0};
done:
    lb_tensor_set_free(&set);
    lb_free(shards);
    json_decref(root);
    return st;
}

static lb_status open_weights(const char *folder, lb_tensor_set *out, lb_error *err)
{
    char *single = NULL, *index = NULL;
    bool has_single, has_index;
    lb_status st;
    LB_GO(find_file(folder, "model.safetensors", &single, &has_single, err));
    LB_GO(find_file(folder, "model.safetensors.index.json", &index, &has_index, err));
    if (has_single)
        LB_GO(lb_safetensors_open((const char *const *)&single, 1, out, err));
    else if (has_index)
        LB_GO(open_index(folder, index, out, err));
    else
        LB_GO(fail_without_weights(folder, err));
done:
    lb_free(single);
    lb_free(index);
    return st;
}

/* A SentencePiece tokenizer.model, where there is no tokenizer.json. */
static lb_status load_sentencepiece(const char *folder, json_t **out, lb_error *err)
{
    char *path;
    bool exists;
    lb_mapping mapping;
    LB_TRY(find_file(folder, "tokenizer.model", &path, &exists, err));
    lb_status st = LB_OK;
    if (exists) {
        LB_GO(lb_map_open(path, &mapping, err));
        st = lb_tokenizer_from_sentencepiece(mapping.data, mapping.size, path, out, err);
        lb_map_close(&mapping);
    }
done:
    lb_free(path);
    return st;
}

/* Newer folders keep the chat template in a file of its own. */
static lb_status load_chat_template(const char *folder, json_t **tokenizer_config, lb_error *err)
{
    char *path, *text = NULL;
    size_t size;
    bool exists;
    json_t *present = json_object_get(*tokenizer_config, "chat_template");
    LB_TRY(find_file(folder, "chat_template.jinja", &path, &exists, err));
    lb_status st = LB_OK;
    if (!exists || (present && !json_is_null(present)))
        goto done;
    LB_GO(lb_file_read(path, MAX_TEMPLATE_BYTES, &text, &size, err));
    json_t *value = json_stringn(text, size);
    if (!value)
        LB_GO(lb_fail(err, LB_EFORMAT, "%s: not valid UTF-8", path));
    if (!*tokenizer_config)
        *tokenizer_config = json_object();
    if (json_object_set_new(*tokenizer_config, "chat_template", value) != 0)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for it", path));
done:
    lb_free(text);
    lb_free(path);
    return st;
}

/* Models without a tokenizer_config.json still say which id ends a text, in config.json: that becomes
 * the tokenizer's eos_token where it names none. */
static lb_status adopt_eos(lb_checkpoint *c, lb_error *err)
{
    const json_t *eos = json_object_get(c->config, "eos_token_id"), *token;
    size_t i;
    if (json_is_array(eos))
        eos = json_array_get(eos, 0);
    const json_t *named = json_object_get(c->tokenizer_config, "eos_token");
    if (!c->tokenizer || !json_is_integer(eos) || (named && !json_is_null(named)))
        return LB_OK;
    json_array_foreach(json_object_get(c->tokenizer, "added_tokens"), i, token)
    {
        const json_t *content = json_object_get(token, "content");
        if (!json_is_string(content) || json_integer_value(json_object_get(token, "id")) != json_integer_value(eos))
            continue;
        if (!c->tokenizer_config)
            c->tokenizer_config = json_object();
        if (json_object_set_new(c->tokenizer_config, "eos_token", json_string(json_string_value(content))) != 0)
            return lb_fail(err, LB_ENOMEM, "%s: no memory for its tokenizer", c->path);
        return LB_OK;
    }
    return LB_OK;
}

static lb_status open_folder(const char *folder, lb_checkpoint *out, lb_error *err)
{
    LB_TRY(load_optional(folder, "config.json", MAX_CONFIG_BYTES, &out->config, err));
    if (!out->config)
        return lb_fail(err, LB_EINVAL, "%s: has no config.json: it is no model folder", folder);
    out->kind = "safetensors";
    LB_TRY(load_optional(folder, "tokenizer.json", MAX_TOKENIZER_BYTES, &out->tokenizer, err));
    if (!out->tokenizer)
        LB_TRY(load_sentencepiece(folder, &out->tokenizer, err));
    LB_TRY(load_optional(folder, "tokenizer_config.json", MAX_CONFIG_BYTES, &out->tokenizer_config, err));
    LB_TRY(load_chat_template(folder, &out->tokenizer_config, err));
    LB_TRY(adopt_eos(out, err));
    return open_weights(folder, &out->tensors, err);
}

static lb_status open_gguf(const char *path, lb_checkpoint *out, lb_error *err)
{
    const char *dot = strrchr(path, '.');
    lb_gguf *gguf;
    if (dot && strcmp(dot, ".safetensors") == 0)
        return lb_fail(err, LB_EINVAL, "%s: one file of a model; give the folder that it lies in", path);
    LB_TRY(lb_gguf_open(path, &gguf, err));
    out->kind = "gguf";
    lb_status st = lb_gguf_to_hf(gguf, &out->tensors, &out->config, err);
    if (st == LB_OK)
        st = lb_tokenizer_from_gguf(gguf, path, &out->tokenizer, &out->tokenizer_config, err);
    lb_gguf_close(gguf);
    return st;
}

lb_status lb_checkpoint_open(const char *path, lb_checkpoint *out, lb_error *err)
{
    if (!lb_path_exists(path))
        return lb_fail(err, LB_EIO, "%s: there is no such file or folder", path);
    lb_checkpoint checkpoint = {.path = lb_strdup(path)};
    if (!checkpoint.path)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", path);
    lb_status st = lb_path_is_directory(path) ? open_folder(path, &checkpoint, err)
                                              : open_gguf(path, &checkpoint, err);
    if (st != LB_OK) {
        lb_checkpoint_close(&checkpoint);
        return st;
    }
    *out = checkpoint;
    return LB_OK;
}

void lb_checkpoint_close(lb_checkpoint *checkpoint)
{
    lb_free(checkpoint->path);
    json_decref(checkpoint->config);
    json_decref(checkpoint->tokenizer);
    json_decref(checkpoint->tokenizer_config);
    lb_tensor_set_free(&checkpoint->tensors);
    *checkpoint = (lb_checkpoint){0};
}
