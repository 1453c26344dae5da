/* SPDX-License-Identifier: MIT */
#include "export/hf_folder.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/partial.h"
#include "base/text.h"
#include "model/foreign.h"
#include "pack/copy_beside.h"

void lb_folder_layer_name(const lb_export_item *item, char out[LB_FOLDER_NAME_BYTES])
{
    const char *name = item->weight.name;
    snprintf(out, LB_FOLDER_NAME_BYTES, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
}

const lb_export_item *lb_folder_packed_item(const lb_folder *folder, size_t index)
{
    for (size_t i = 0; i < folder->count; i++) {
        if (folder->packed[i] && folder->part[i] == 0 && index-- == 0)
            return folder->items[i];
    }
    return NULL;
}

/* ---- Planning ---------------------------------------------------------------------------------------- */

static lb_status add(lb_folder *f, const lb_export_item *item, unsigned part, bool packed, const char *name,
                     const lb_tensor_out *tensor, lb_error *err)
{
    lb_tensor view = {.name = (char *)(uintptr_t)name, .dtype = tensor->dtype, .rank = tensor->rank};
    memcpy(view.shape, tensor->shape, sizeof view.shape);
    LB_TRY(lb_tensor_measure(&view, f->options->output, err));
    const size_t at = f->count++;
    snprintf(f->names[at], sizeof f->names[at], "%s", name);
    f->tensors[at] = *tensor;
    f->tensors[at].name = f->names[at];
    f->tensors[at].bytes = view.bytes;
    f->items[at] = item;
    f->part[at] = part;
    f->packed[at] = packed;
    return LB_OK;
}

static lb_status add_float(lb_folder *f, const lb_export_item *item, lb_error *err)
{
    const lb_weight *w = &item->weight;
    lb_tensor_out out = {.rank = item->matrix ? 2 : 1};
    const lb_dtype stored = lb_export_stored_dtype(lb_export_has_codes(w) ? &f->list.items[0].weight : w);
    LB_TRY(lb_export_dtype(f->options->dtype, stored, &out.dtype, err));
    out.shape[0] = item->matrix ? w->rows : w->cols;
    out.shape[1] = w->cols;
    lb_export_count(&f->tally, lb_dtype_name(out.dtype));
    return add(f, item, 0, false, w->name, &out, err);
}

static lb_status add_layer(lb_folder *f, const lb_export_item *item, lb_error *err)
{
    lb_tensor_out parts[LB_FOLDER_MAX_PARTS] = {{0}};
    size_t count = 0;
    lb_error why;
    char layer[LB_FOLDER_NAME_BYTES], name[2 * LB_FOLDER_NAME_BYTES];
    const lb_status st = f->kind->plan ? f->kind->plan(f, item, parts, &count, &why) : LB_EUNSUPPORTED;
    if (st == LB_ENOMEM || st == LB_EFORMAT)
        return lb_fail(err, st, "%s", why.msg);
    if (st != LB_OK) {
        if (f->kind->plan && !f->options->dequantize)
            return lb_fail(err, st,
                           "%s; --dequantize writes such layers as floats, and --to safetensors everything",
                           why.msg);
        f->result->dequantized++;
        return add_float(f, item, err);
    }
    lb_folder_layer_name(item, layer);
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%s", layer, parts[i].name);
        LB_TRY(add(f, item, (unsigned)i, true, name, &parts[i], err));
    }
    f->result->layers++;
    lb_export_count(&f->tally, lb_format_is_float(&item->weight.format) ? lb_foreign_name(&item->weight)
                                                                        : item->weight.format.name);
    return LB_OK;
}

static lb_status plan(lb_folder *f, lb_error *err)
{
    LB_TRY(lb_export_list_make(f->weights, &f->list, err));
    const size_t most = f->list.count * LB_FOLDER_MAX_PARTS;
    f->tensors = lb_alloc_zero(most, sizeof *f->tensors);
    f->names = lb_alloc_zero(most, sizeof *f->names);
    f->items = lb_alloc_zero(most, sizeof *f->items);
    f->part = lb_alloc_zero(most, sizeof *f->part);
    f->packed = lb_alloc_zero(most, sizeof *f->packed);
    if (!f->tensors || !f->names || !f->items || !f->part || !f->packed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for the list of tensors", f->options->output);
    for (size_t i = 0; i < f->list.count; i++) {
        const lb_export_item *item = &f->list.items[i];
        LB_TRY(lb_progress_tell(&f->options->progress, "looking", i, f->list.count, err));
        LB_TRY(lb_export_has_codes(&item->weight) ? add_layer(f, item, err) : add_float(f, item, err));
    }
    f->result->tensors = f->count;
    return LB_OK;
}

/* ---- Bytes ------------------------------------------------------------------------------------------- */

static void drop_parts(lb_folder *f)
{
    for (size_t i = 0; i < LB_FOLDER_MAX_PARTS; i++) {
        lb_free(f->parts[i]);
        f->parts[i] = NULL;
    }
    if (f->made)
        lb_weight_forget(f->weights, &f->made->weight);
    f->made = NULL;
}

static lb_status make_layer(lb_folder *f, size_t index, lb_error *err)
{
    const lb_export_item *item = f->items[index];
    drop_parts(f);
    for (size_t i = index; i < f->count && f->items[i] == item; i++)
        LB_TRY(lb_alloc_array(&f->parts[f->part[i]], f->tensors[i].bytes, 1, f->names[i], err));
    LB_TRY(f->kind->fill(f, item, f->parts, err));
    f->made = item;
    return LB_OK;
}

static lb_status make_float(lb_folder *f, size_t index, lb_error *err)
{
    const lb_export_item *item = f->items[index];
    const lb_weight *w = &item->weight;
    const size_t n = w->rows * w->cols;
    float *values;
    drop_parts(f);
    LB_TRY(lb_alloc_array(&f->parts[0], f->tensors[index].bytes, 1, w->name, err));
    LB_TRY(lb_alloc_array(&values, n, sizeof *values, w->name, err));
    lb_status st =
        f->kind->floats ? f->kind->floats(f, item, values, err) : lb_weight_read(w, 0, w->rows, values, err);
    if (st == LB_OK)
        st = lb_export_narrow(w->name, values, n, f->tensors[index].dtype, f->parts[0], err);
    lb_free(values);
    f->made = item;
    return st;
}

/* An lb_tensor_source. Parts of one layer follow each other. */
static lb_status next_tensor(void *user, size_t index, const void **data, lb_error *err)
{
    lb_folder *f = user;
    LB_TRY(lb_progress_tell(&f->options->progress, "writing", index, f->count, err));
    if (!f->packed[index])
        LB_TRY(make_float(f, index, err));
    else if (f->made != f->items[index])
        LB_TRY(make_layer(f, index, err));
    *data = f->parts[f->part[index]];
    return LB_OK;
}

/* ---- The folder -------------------------------------------------------------------------------------- */

static int append(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return ((lb_text *)text)->failed ? -1 : 0;
}

/* What readers of safetensors look for, and the recipe of a checkpoint that lowbit made. */
static lb_status make_metadata(const lb_folder *f, json_t **out, lb_error *err)
{
    const json_t *recipe = json_object_get(f->weights->checkpoint.config, "quantization_config");
    lb_text text = {0};
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    bool failed = !metadata;
    if (metadata && json_is_object(recipe)) {
        failed = json_dump_callback(recipe, append, &text, JSON_COMPACT | JSON_SORT_KEYS) != 0 ||
                 text.failed ||
                 json_object_set_new(metadata, "lowbit.quantization_config",
                                     json_stringn(text.data, text.length)) != 0;
    }
    lb_text_free(&text);
    if (failed) {
        json_decref(metadata);
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its metadata", f->options->output);
    }
    *out = metadata;
    return LB_OK;
}

static const char *torch_name(lb_dtype dtype)
{
    return dtype == LB_DTYPE_F32 ? "float32" : dtype == LB_DTYPE_BF16 ? "bfloat16" : "float16";
}

static lb_status write_config(lb_folder *f, const char *folder, lb_error *err)
{
    json_t *config = json_deep_copy(f->weights->checkpoint.config), *quantization = NULL;
    const char *dtype = f->kind->torch_dtype ? f->kind->torch_dtype : torch_name(f->tensors[0].dtype);
    char *path = lb_path_join(folder, "config.json");
    lb_status st = LB_OK;
    if (!config || !path)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", folder));
    json_object_del(config, "quantization_config");
    if (f->kind->config)
        LB_GO(f->kind->config(f, &quantization, err));
    bool failed = json_object_set_new(config, "torch_dtype", json_string(dtype)) != 0 ||
                  json_object_set_new(config, "tie_word_embeddings",
                                      json_boolean(f->weights->config.tied_embeddings)) != 0;
    if (quantization)
        failed = json_object_set(config, "quantization_config", quantization) != 0 || failed;
    else if (f->kind->config)
        failed = true;
    if (failed)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its configuration", folder));
    LB_GO(lb_json_save(path, config, err));
done:
    lb_free(path);
    json_decref(quantization);
    json_decref(config);
    return st;
}

/* A source without these files (GGUF, tokenizer.model) has its tokenizer written as JSON. */
static lb_status save_if_absent(const char *folder, const char *name, const json_t *json, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    lb_status st = path ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a name", folder);
    if (st == LB_OK && json && !lb_path_exists(path))
        st = lb_json_save(path, json, err);
    lb_free(path);
    return st;
}

static lb_status write_beside(lb_folder *f, const char *folder, lb_error *err)
{
    const lb_checkpoint *c = &f->weights->checkpoint;
    if (lb_path_is_directory(c->path))
        LB_TRY(lb_copy_beside(c->path, folder, err));
    LB_TRY(save_if_absent(folder, "tokenizer.json", c->tokenizer, err));
    return save_if_absent(folder, "tokenizer_config.json", c->tokenizer_config, err);
}

static lb_status write_folder(lb_folder *f, const char *folder, lb_error *err)
{
    json_t *metadata = NULL;
    char *path = lb_path_join(folder, "model.safetensors");
    lb_status st = path ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a name", folder);
    if (st == LB_OK)
        st = make_metadata(f, &metadata, err);
    if (st == LB_OK)
        st = lb_safetensors_stream_with(path, metadata, f->tensors, f->count, next_tensor, f, err);
    if (st == LB_OK)
        st = write_config(f, folder, err);
    if (st == LB_OK)
        st = write_beside(f, folder, err);
    if (st == LB_OK)
        st = lb_directory_bytes(folder, &f->result->bytes, err);
    json_decref(metadata);
    lb_free(path);
    return st;
}

static void folder_free(lb_folder *f)
{
    drop_parts(f);
    lb_export_list_free(&f->list);
    lb_free(f->tensors);
    lb_free(f->names);
    lb_free(f->items);
    lb_free(f->part);
    lb_free(f->packed);
}

lb_status lb_folder_export(const lb_weights *weights, const lb_folder_kind *kind, void *state,
                           const lb_export_options *options, lb_export_result *result, lb_error *err)
{
    lb_folder f = {.weights = weights, .options = options, .kind = kind, .state = state, .result = result};
    lb_partial partial = {0};
    lb_status st;
    LB_GO(plan(&f, err));
    LB_GO(lb_partial_begin(options->output, &partial, err));
    LB_GO(write_folder(&f, partial.path, err));
    LB_GO(lb_partial_commit(&partial, err));
    lb_export_tell(&f.tally, result->types, sizeof result->types);
done:
    lb_partial_abandon(&partial);
    folder_free(&f);
    return st;
}
