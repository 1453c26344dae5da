/* SPDX-License-Identifier: MIT */
#include "pack/quantized_dir.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "model/input_order.h"
#include "pack/copy_beside.h"
#include "pack/plan.h"
#include "pack/run_record.h"
#include "pack/shard.h"
#include "quantize/polish.h"

static const char notes_name[] = "lowbit-notes.json";

enum { MAX_NOTES_BYTES = 1 << 28 };

struct lb_quantized_dir {
    const lb_weights *weights;
    const lb_recipe *recipe;
    char *path, *partial; /* the final name, and the one while working */
    int lock;
    bool ours; /* this run made `partial`, or resumes it: a folder of anyone else's is never removed */
    bool finished;
};

/* File k of the checkpoint: the blocks in order, then everything else. */
static char *shard_path(const lb_quantized_dir *dir, size_t k)
{
    char name[64];
    const size_t count = dir->weights->config.layers + 1;
    snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k + 1, count);
    return lb_path_join(dir->partial, name);
}

/* Measured errors of block k, kept only until the checkpoint is finished. */
static void errors_name(size_t k, char *out, size_t bytes)
{
    snprintf(out, bytes, "lowbit-errors-%05zu.json", k + 1);
}

/* Params of block k that were learned after all blocks, likewise. */
static void learned_name(size_t k, char *out, size_t bytes)
{
    snprintf(out, bytes, "lowbit-learned-%05zu.safetensors", k + 1);
}

static char *learned_path(const lb_quantized_dir *dir, size_t k)
{
    char name[64];
    learned_name(k, name, sizeof name);
    return lb_path_join(dir->partial, name);
}

static char *errors_path(const lb_quantized_dir *dir, size_t k)
{
    char name[64];
    errors_name(k, name, sizeof name);
    return lb_path_join(dir->partial, name);
}

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "quantized checkpoint: no memory for a name");
}

static lb_status save_record(const lb_quantized_dir *dir, const json_t *record, lb_error *err)
{
    char *path = lb_path_join(dir->partial, LB_RUN_RECORD_NAME);
    if (!path)
        return no_memory(err);
    lb_status st = lb_json_save(path, record, err);
    lb_free(path);
    return st;
}

/* A folder that was there is this run's only where its record says so. An empty one is what a kill at the very start
 * leaves, before there is a record. */
static lb_status begin_or_resume(lb_quantized_dir *dir, const json_t *record, bool resume, lb_error *err)
{
    bool made = false, empty;
    if (lb_path_exists(dir->path))
        return lb_fail(err, LB_EEXIST, "the output %s exists already; choose another name or delete it",
                       dir->path);
    if (resume || !lb_path_exists(dir->partial))
        LB_TRY(lb_hold_directory(dir->partial, &dir->lock, &made, err));
    if (!made && !resume)
        return lb_fail(err, LB_EEXIST,
                       "%s exists: an unfinished run; add --resume to go on with it, or delete it",
                       dir->partial);
    LB_TRY(lb_directory_is_empty(dir->partial, &empty, err));
    if (!empty)
        LB_TRY(lb_run_record_check(dir->partial, record, err));
    dir->ours = true;
    return empty ? save_record(dir, record, err) : LB_OK;
}

lb_status lb_quantized_dir_open(const char *out_path, const lb_weights *weights, const lb_recipe *recipe,
                                const json_t *record, bool resume, lb_quantized_dir **out, lb_error *err)
{
    size_t length = strlen(out_path);
    while (length > 1 && out_path[length - 1] == '/')
        length--;
    lb_quantized_dir *dir = lb_alloc_zero(1, sizeof *dir);
    if (!dir)
        return no_memory(err);
    *dir = (lb_quantized_dir){.weights = weights, .recipe = recipe, .lock = -1};
    dir->path = lb_strndup(out_path, length);
    dir->partial = lb_alloc(length + sizeof ".partial", 1);
    lb_status st = dir->path && dir->partial ? LB_OK : no_memory(err);
    if (st == LB_OK) {
        memcpy(dir->partial, dir->path, length);
        memcpy(dir->partial + length, ".partial", sizeof ".partial");
        st = begin_or_resume(dir, record, resume, err);
    }
    if (st == LB_OK)
        *out = dir;
    else
        lb_quantized_dir_close(dir);
    return st;
}

static bool has_block(void *self, size_t layer)
{
    const lb_quantized_dir *dir = self;
    char *path = shard_path(dir, layer);
    const bool there = path && lb_path_exists(path);
    lb_free(path);
    return there;
}

size_t lb_quantized_dir_done(const lb_quantized_dir *dir)
{
    size_t done = 0;
    while (done < dir->weights->config.layers && has_block((void *)(uintptr_t)dir, done))
        done++;
    return done;
}

lb_status lb_quantized_dir_keep(lb_quantized_dir *dir, const json_t *notes, lb_error *err)
{
    char *path = lb_path_join(dir->partial, notes_name);
    if (!path)
        return no_memory(err);
    const lb_status st = lb_json_save(path, notes, err);
    lb_free(path);
    return st;
}

json_t *lb_quantized_dir_kept(const lb_quantized_dir *dir)
{
    json_t *notes = NULL;
    char *path = lb_path_join(dir->partial, notes_name);
    if (path && lb_path_exists(path))
        (void)lb_json_load(path, MAX_NOTES_BYTES, &notes, NULL);
    lb_free(path);
    return notes;
}

static lb_status look_for(const lb_quantized_dir *dir, const char *name, bool *there, lb_error *err)
{
    char *path = lb_path_join(dir->partial, name);
    if (!path)
        return no_memory(err);
    *there = lb_path_exists(path);
    lb_free(path);
    return LB_OK;
}

static bool has_notes(const lb_quantized_dir *dir)
{
    bool there;
    return look_for(dir, notes_name, &there, NULL) == LB_OK && there;
}

void lb_quantized_dir_close(lb_quantized_dir *dir)
{
    if (!dir)
        return;
    /* Only a folder of this run in which nothing is finished is worth nothing. */
    if (dir->ours && !dir->finished && lb_quantized_dir_done(dir) == 0 && !has_notes(dir))
        (void)lb_remove_directory(dir->partial, NULL);
    lb_unlock_directory(dir->lock);
    lb_free(dir->path);
    lb_free(dir->partial);
    lb_free(dir);
}

static lb_status save_errors(const lb_quantized_dir *dir, size_t k, const lb_layer *layers, size_t count,
                             lb_error *err)
{
    char *path = errors_path(dir, k);
    json_t *errors = json_object();
    lb_status st = path && errors ? LB_OK : no_memory(err);
    for (size_t i = 0; st == LB_OK && i < count; i++) {
        if (json_object_set_new(errors, layers[i].name, json_real(layers[i].relative_error)) != 0)
            st = no_memory(err);
    }
    if (st == LB_OK)
        st = lb_json_save(path, errors, err);
    json_decref(errors);
    lb_free(path);
    return st;
}

static lb_status add_vector(lb_shard *shard, const lb_weights *weights, const char *name, size_t n,
                            lb_error *err)
{
    lb_weight w;
    LB_TRY(lb_weights_find(weights, name, 1, n, &w, err));
    return lb_shard_add_float(shard, &w, lb_kept_dtype(&w, NULL), err);
}

static lb_status add_layer(lb_shard *shard, const lb_quantized_dir *dir, const lb_layer *layer, lb_error *err)
{
    const lb_weights *weights = dir->weights;
    char name[160];
    lb_weight w;
    if (!lb_format_is_float(&layer->format))
        return lb_shard_add_packed(shard, layer, err);
    snprintf(name, sizeof name, "%s.weight", layer->name);
    LB_TRY(lb_weights_find(weights, name, layer->rows, layer->cols, &w, err));
    const lb_dtype dtype = lb_kept_dtype(&w, &layer->format);
    const lb_transform *t = &dir->recipe->transform;
    if (t->kind != LB_TRANSFORM_NONE || t->rescale ||
        lb_act_masks(&dir->recipe->act)) /* its input is transformed as its neighbours' is */
        return lb_shard_add_values(shard, &w, layer->w, dtype, err);
    return lb_shard_add_float(shard, &w, dtype, err);
}

/* A norm or bias of a block, of which the transform may have made `values`. */
static lb_status add_block_vector(lb_shard *shard, const lb_quantized_dir *dir, const char *name, size_t n,
                                  const float *values, lb_error *err)
{
    lb_weight w;
    if (!dir->recipe->transform.rescale && !lb_act_masks(&dir->recipe->act))
        return add_vector(shard, dir->weights, name, n, err);
    LB_TRY(lb_weights_find(dir->weights, name, 1, n, &w, err));
    return lb_shard_add_values(shard, &w, values, lb_vector_dtype(dir->recipe, &w), err);
}

/* Which channels of the block's inputs are high. */
static lb_status add_masks(lb_shard *shard, const lb_quantized_dir *dir, size_t layer, const lb_block *block,
                           lb_error *err)
{
    const lb_act *act = &dir->recipe->act;
    uint8_t *mask;
    char name[128];
    LB_TRY(
        lb_alloc_array(&mask, lb_input_mask_bytes(lb_widest_input(&dir->weights->config)), 1, "a mask", err));
    lb_status st = LB_OK;
    for (unsigned stage = 0; st == LB_OK && stage < LB_MASKS_PER_BLOCK; stage++) {
        const size_t width = lb_stage_width(&dir->weights->config, (lb_stage)stage);
        lb_input_mask_name(layer, (lb_stage)stage, name, sizeof name);
        lb_input_mask_of(block->order[stage], lb_act_high_channels(act, width), width, mask);
        st = lb_shard_add_bytes(shard, name, mask, lb_input_mask_bytes(width), err);
    }
    lb_free(mask);
    return st;
}

static lb_status commit_block(void *self, size_t layer, const lb_layer *layers, size_t count,
                              const lb_block *block, lb_error *err)
{
    const lb_quantized_dir *dir = self;
    lb_shard shard = {0};
    lb_status st = LB_OK;
    char name[128], *path = shard_path(dir, layer);
    const lb_config *config = &dir->weights->config;
    size_t n;
    if (!path)
        return no_memory(err);
    for (size_t i = 0; i < count; i++)
        LB_GO(add_layer(&shard, dir, &layers[i], err));
    for (size_t i = 0; lb_block_vector(config, layer, i, name, sizeof name, &n); i++)
        LB_GO(add_block_vector(&shard, dir, name, n, lb_block_vector_values(config, block, i), err));
    if (lb_act_masks(&dir->recipe->act))
        LB_GO(add_masks(&shard, dir, layer, block, err));
    LB_GO(save_errors(dir, layer, layers, count, err)); /* first: the shard is what says "finished" */
    LB_GO(lb_shard_write(&shard, path, err));
done:
    lb_shard_free(&shard);
    lb_free(path);
    return st;
}

static lb_status read_floats(const lb_tensor_set *set, const char *path, const char *name, size_t rows,
                             size_t cols, float *out, lb_error *err)
{
    const lb_tensor *t = lb_tensor_find(set, name);
    if (!t || lb_tensor_rows(t) != rows || lb_tensor_cols(t) != cols)
        return lb_fail(err, LB_EFORMAT, "%s: tensor %s is not what the recipe would have written", path,
                       name);
    return lb_tensor_read(t, 0, rows, out, err);
}

/* All of a block that has no codes. */
static lb_status restore_floats(const lb_quantized_dir *dir, size_t layer, const lb_tensor_set *set,
                                const char *path, const lb_layer *layers, size_t count, lb_block *block,
                                lb_error *err)
{
    const lb_config *config = &dir->weights->config;
    char name[160];
    size_t n;
    for (size_t i = 0; i < count; i++) {
        if (!lb_format_is_float(&layers[i].format))
            continue;
        snprintf(name, sizeof name, "%s.weight", layers[i].name);
        LB_TRY(read_floats(set, path, name, layers[i].rows, layers[i].cols, block->linear[i].dense, err));
    }
    for (size_t i = 0; lb_block_vector(config, layer, i, name, sizeof name, &n); i++)
        LB_TRY(read_floats(set, path, name, 1, n, lb_block_vector_values(config, block, i), err));
    return LB_OK;
}

static lb_status restore_block(void *self, size_t layer, lb_layer *layers, size_t count, lb_block *block,
                               lb_error *err)
{
    const lb_quantized_dir *dir = self;
    lb_tensor_set set = {0};
    json_t *errors = NULL;
    lb_status st = LB_OK;
    char *path = shard_path(dir, layer), *beside = errors_path(dir, layer);
    const char *paths[] = {path};
    if (!path || !beside) {
        st = no_memory(err);
        goto done;
    }
    LB_GO(lb_safetensors_open(paths, 1, &set, err));
    LB_GO(lb_json_load(beside, 1 << 20, &errors, err));
    for (size_t i = 0; i < count; i++) {
        if (lb_format_is_float(&layers[i].format))
            continue;
        LB_GO(lb_shard_unpack(&set, path, &layers[i], err));
        layers[i].relative_error = json_number_value(json_object_get(errors, layers[i].name));
    }
    if (block)
        LB_GO(restore_floats(dir, layer, &set, path, layers, count, block, err));
done:
    json_decref(errors);
    lb_tensor_set_free(&set);
    lb_free(path);
    lb_free(beside);
    return st;
}

static bool has_learned(void *self, size_t layer)
{
    char *path = learned_path(self, layer);
    const bool there = path && lb_path_exists(path);
    lb_free(path);
    return there;
}

static lb_status save_learned(void *self, size_t layer, const lb_layer *layers, size_t count, lb_error *err)
{
    lb_shard shard = {0};
    lb_status st = LB_OK;
    char *path = learned_path(self, layer);
    if (!path)
        return no_memory(err);
    for (size_t i = 0; i < count; i++)
        if (layers[i].params)
            LB_GO(lb_shard_add_params(&shard, &layers[i], err));
    LB_GO(lb_shard_write(&shard, path, err));
done:
    lb_shard_free(&shard);
    lb_free(path);
    return st;
}

static lb_status restore_learned(void *self, size_t layer, lb_layer *layers, size_t count, lb_error *err)
{
    lb_tensor_set set = {0};
    lb_status st = LB_OK;
    char *path = learned_path(self, layer);
    const char *paths[] = {path};
    if (!path)
        return no_memory(err);
    LB_GO(lb_safetensors_open(paths, 1, &set, err));
    for (size_t i = 0; i < count; i++)
        if (lb_polish_takes(&layers[i].format))
            LB_GO(lb_shard_read_params(&set, path, &layers[i], err));
done:
    lb_tensor_set_free(&set);
    lb_free(path);
    return st;
}

lb_sink lb_quantized_dir_sink(lb_quantized_dir *dir)
{
    return (lb_sink){.self = dir,
                     .has = has_block,
                     .restore = restore_block,
                     .commit = commit_block,
                     .has_learned = has_learned,
                     .restore_learned = restore_learned,
                     .save_learned = save_learned};
}

/* An embedding or head that a rule quantizes: round to nearest, since nothing follows that could make
 * up for its errors. */
static lb_status add_outer(lb_shard *shard, const lb_quantized_dir *dir, const char *name, lb_error *err)
{
    const lb_config *c = &dir->weights->config;
    const lb_format *rule = lb_outer_format(dir->recipe, name);
    lb_layer layer = {.rows = c->vocab, .cols = c->hidden};
    lb_weight w;
    char tensor[160];
    lb_status st = LB_OK;
    snprintf(tensor, sizeof tensor, "%s.weight", name);
    LB_TRY(lb_weights_find(dir->weights, tensor, c->vocab, c->hidden, &w, err));
    if (!rule || lb_format_is_float(rule))
        return lb_shard_add_float(shard, &w, lb_kept_dtype(&w, rule), err);
    snprintf(layer.name, sizeof layer.name, "%s", name);
    layer.format = *rule;
    LB_GO(lb_alloc_array(&layer.w, c->vocab, c->hidden * sizeof *layer.w, name, err));
    LB_GO(lb_alloc_array(&layer.codes, c->vocab, c->hidden, name, err));
    LB_GO(lb_alloc_array(&layer.params, c->vocab,
                         lb_format_groups(rule, c->hidden) * rule->params * sizeof *layer.params, name, err));
    LB_GO(lb_weight_read(&w, 0, c->vocab, layer.w, err));
    lb_format_bind(&layer.format, layer.w, c->vocab * c->hidden);
    LB_GO(lb_method_rtn.quantize(dir->recipe, NULL, &layer, 1, err));
    LB_GO(lb_shard_add_packed(shard, &layer, err));
done:
    lb_free(layer.w);
    lb_free(layer.codes);
    lb_free(layer.params);
    return st;
}

static lb_status write_outer(lb_quantized_dir *dir, lb_error *err)
{
    lb_shard shard = {0};
    lb_status st = LB_OK;
    const char *layer;
    char *path = shard_path(dir, dir->weights->config.layers);
    if (!path)
        return no_memory(err);
    for (size_t i = 0; lb_outer_matrix(&dir->weights->config, i, &layer); i++)
        LB_GO(add_outer(&shard, dir, layer, err));
    LB_GO(add_vector(&shard, dir->weights, "model.norm.weight", dir->weights->config.hidden, err));
    LB_GO(lb_shard_write(&shard, path, err));
done:
    lb_shard_free(&shard);
    lb_free(path);
    return st;
}

static lb_status write_index(const lb_quantized_dir *dir, lb_error *err)
{
    const size_t count = dir->weights->config.layers + 1;
    json_t *map = json_object(), *index = NULL;
    uint64_t bytes = 0;
    lb_status st = map ? LB_OK : no_memory(err);
    for (size_t k = 0; st == LB_OK && k < count; k++) {
        lb_tensor_set set = {0};
        char *path = shard_path(dir, k);
        const char *paths[] = {path};
        st = path ? lb_safetensors_open(paths, 1, &set, err) : no_memory(err);
        for (size_t i = 0; st == LB_OK && i < set.count; i++) {
            if (json_object_set_new(map, set.tensors[i].name, json_string(lb_path_base(path))) != 0)
                st = no_memory(err);
            bytes += set.tensors[i].bytes;
        }
        lb_tensor_set_free(&set);
        lb_free(path);
    }
    char *path = lb_path_join(dir->partial, "model.safetensors.index.json");
    if (st == LB_OK)
        index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
    if (st == LB_OK)
        st = path && index ? lb_json_save(path, index, err) : no_memory(err);
    json_decref(index);
    json_decref(map);
    lb_free(path);
    return st;
}

/* {"model.layers.0.self_attn.q_proj": "int4-g128"} of every layer that is packed; NULL without memory. */
static json_t *layer_formats(const lb_quantized_dir *dir)
{
    const lb_config *c = &dir->weights->config;
    json_t *layers = json_object();
    const char *outer;
    char name[128];
    int failed = 0;
    for (size_t i = 0; i < c->layers * LB_BLOCK_LINEARS; i++) {
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        const lb_format *f = lb_recipe_layer(dir->recipe, i / LB_BLOCK_LINEARS, which);
        lb_linear_name(i / LB_BLOCK_LINEARS, which, name, sizeof name);
        if (!lb_format_is_float(f))
            failed |= json_object_set_new(layers, name, json_string(f->name));
    }
    for (size_t i = 0; lb_outer_matrix(c, i, &outer); i++) {
        const lb_format *f = lb_outer_format(dir->recipe, outer);
        if (f && !lb_format_is_float(f))
            failed |= json_object_set_new(layers, outer, json_string(f->name));
    }
    if (!failed)
        return layers;
    json_decref(layers);
    return NULL;
}

/* What a reader must do to the inputs of linear layers; NULL without memory. */
static json_t *describe_inputs(const lb_recipe *recipe)
{
    char transform[LB_TRANSFORM_NAME_BYTES];
    json_t *inputs = json_object();
    int failed = inputs == NULL;
    if (recipe->transform.kind != LB_TRANSFORM_NONE) {
        lb_transform rotation = recipe->transform; /* what rescales has been folded into the weights */
        rotation.rescale = LB_RESCALE_NONE;
        lb_transform_name(&rotation, transform);
        failed |= json_object_set_new(inputs, "transform", json_string(transform));
        failed |= json_object_set_new(inputs, "seed", json_integer((json_int_t)recipe->transform.seed));
    }
    if (!lb_act_keeps(&recipe->act))
        failed |= json_object_set_new(inputs, "act", json_string(recipe->act.name));
    if (!failed)
        return inputs;
    json_decref(inputs);
    return NULL;
}

/* The source's configuration, and beside it all that a reader needs to know of the codes. */
static lb_status write_config(const lb_quantized_dir *dir, lb_error *err)
{
    json_t *layers = layer_formats(dir), *config = json_deep_copy(dir->weights->checkpoint.config);
    json_t *recipe = lb_recipe_json(dir->recipe), *inputs = describe_inputs(dir->recipe);
    json_t *quantization =
        layers && recipe && inputs
            ? json_pack("{s:s, s:i, s:O, s:O, s:O}", "quant_method", "lowbit", "format_version",
                        LB_QUANTIZED_VERSION, "recipe", recipe, "inputs", inputs, "layers", layers)
            : NULL;
    char *path = lb_path_join(dir->partial, "config.json");
    lb_status st = config && quantization && path ? LB_OK : no_memory(err);
    if (st == LB_OK) {
        const bool tied = dir->weights->config.tied_embeddings;
        const int failed = json_object_set_new(config, "tie_word_embeddings", json_boolean(tied)) |
                           json_object_set(config, "quantization_config", quantization);
        st = failed ? no_memory(err) : lb_json_save(path, config, err);
    }
    json_decref(quantization);
    json_decref(recipe);
    json_decref(inputs);
    json_decref(layers);
    json_decref(config);
    lb_free(path);
    return st;
}

static lb_status save_beside(const lb_quantized_dir *dir, const char *name, const json_t *json, lb_error *err)
{
    if (!json)
        return LB_OK;
    char *path = lb_path_join(dir->partial, name);
    if (!path)
        return no_memory(err);
    lb_status st = lb_json_save(path, json, err);
    lb_free(path);
    return st;
}

/* A folder's tokenizer files are copied as they are; a GGUF file's tokenizer becomes such files, and one that is not
 * copied because it is a link to elsewhere. */
static lb_status write_tokenizer(const lb_quantized_dir *dir, lb_error *err)
{
    const lb_checkpoint *source = &dir->weights->checkpoint;
    if (lb_path_is_directory(source->path)) {
        bool json, model;
        LB_TRY(lb_copy_beside(source->path, dir->partial, err));
        LB_TRY(look_for(dir, "tokenizer.json", &json, err));
        LB_TRY(look_for(dir, "tokenizer.model", &model, err));
        if (json || model)
            return LB_OK;
    }
    LB_TRY(save_beside(dir, "tokenizer.json", source->tokenizer, err));
    return save_beside(dir, "tokenizer_config.json", source->tokenizer_config, err);
}

static void remove_file(const lb_quantized_dir *dir, const char *name)
{
    char *path = lb_path_join(dir->path, name);
    if (path)
        (void)unlink(path);
    lb_free(path);
}

/* What only a run in progress needs. Removed after the folder has its final name, because without it an
 * OUT.partial could not be resumed; if this process dies in between, what is left does no harm. */
static void remove_scaffolding(const lb_quantized_dir *dir)
{
    char name[64];
    remove_file(dir, LB_RUN_RECORD_NAME);
    remove_file(dir, notes_name);
    for (size_t k = 0; k < dir->weights->config.layers; k++) {
        errors_name(k, name, sizeof name);
        remove_file(dir, name);
        learned_name(k, name, sizeof name);
        remove_file(dir, name);
    }
}

lb_status lb_quantized_dir_finish(lb_quantized_dir *dir, uint64_t *file_bytes, lb_error *err)
{
    LB_TRY(write_outer(dir, err));
    LB_TRY(write_tokenizer(dir, err));
    LB_TRY(write_config(dir, err));
    LB_TRY(write_index(dir, err));
    if (lb_path_exists(dir->path)) /* rename would replace an empty folder without a word */
        return lb_fail(err, LB_EEXIST, "the output %s has appeared meanwhile; the result is in %s", dir->path,
                       dir->partial);
    LB_TRY(lb_rename_directory(dir->partial, dir->path, err));
    dir->finished = true;
    remove_scaffolding(dir);
    (void)lb_directory_bytes(dir->path, file_bytes, NULL); /* a number for the report, no reason to fail */
    return LB_OK;
}
