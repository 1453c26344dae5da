/* SPDX-License-Identifier: MIT
 * See to_gguf.h. Keys: ggml's docs/gguf.md; which keys and tensors a Llama, Qwen2 or Qwen3 model has, and
 * the order of rows of q and k in Llama models: what llama.cpp's loader reads. */
#include "export/to_gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "export/gguf_blocks.h"
#include "export/gguf_vocabulary.h"
#include "io/gguf.h"
#include "io/gguf_write.h"
#include "io/tokenizer_parts.h"
#include "model/rope.h"

typedef struct gguf_job {
    const lb_weights *weights;
    const lb_export_options *options;
    lb_export_list list;
    lb_gguf_tensor_out *tensors; /* [items, and twice as many for scales and rotary factors] */
    const lb_export_item **items; /* of each tensor; NULL: `numbers` */
    float *numbers; /* [tensors]: the one number of a tensor that is a scale */
    size_t count;
    float *factors; /* of rotary frequencies, [head_dim / 2]; NULL: none */
    const char *arch;
    lb_export_tally tally;
    lb_export_result *result;
} gguf_job;

/* ---- Keys -------------------------------------------------------------------------------------------- */

static const char *architecture_of(const lb_config *c)
{
    if (strcmp(c->architecture, "Qwen2ForCausalLM") == 0)
        return "qwen2";
    return strcmp(c->architecture, "Qwen3ForCausalLM") == 0 ? "qwen3" : "llama";
}

static bool is_llama(const gguf_job *job)
{
    return strcmp(job->arch, "llama") == 0;
}

static const char *arch_key(const gguf_job *job, const char *suffix, char key[96])
{
    snprintf(key, 96, "%s.%s", job->arch, suffix);
    return key;
}

static void put_string(lb_gguf_keys *keys, const char *key, const char *text)
{
    lb_gguf_put_string(keys, key, text, strlen(text));
}

static int append(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return ((lb_text *)text)->failed ? -1 : 0;
}

/* The recipe of a checkpoint that lowbit made, as its config.json has it. */
static lb_status put_recipe(const gguf_job *job, lb_gguf_keys *keys, lb_error *err)
{
    const json_t *q = json_object_get(job->weights->checkpoint.config, "quantization_config");
    lb_text text = {0};
    lb_status st = LB_OK;
    if (!json_is_object(q))
        return LB_OK;
    if (json_dump_callback(q, append, &text, JSON_COMPACT | JSON_SORT_KEYS) != 0 || text.failed)
        st = lb_fail(err, LB_ENOMEM, "%s: no memory for its recipe", job->options->output);
    else
        lb_gguf_put_string(keys, "lowbit.quantization_config", text.data, text.length);
    lb_text_free(&text);
    return st;
}

static void put_shape(const gguf_job *job, lb_gguf_keys *keys)
{
    const lb_config *c = &job->weights->config;
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {
        {"vocab_size", c->vocab},
        {"context_length", c->max_context},
        {"embedding_length", c->hidden},
        {"block_count", c->layers},
        {"feed_forward_length", c->ffn},
        {"rope.dimension_count", c->head_dim},
        {"attention.head_count", c->heads},
        {"attention.head_count_kv", c->kv_heads},
        {"attention.key_length", c->head_dim},
        {"attention.value_length", c->head_dim},
    };
    char key[96];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        lb_gguf_put_u32(keys, arch_key(job, sizes[i].key, key), (uint32_t)sizes[i].value);
    if (c->window)
        lb_gguf_put_u32(keys, arch_key(job, "attention.sliding_window", key), (uint32_t)c->window);
    lb_gguf_put_f32(keys, arch_key(job, "attention.layer_norm_rms_epsilon", key), (float)c->norm_eps);
    lb_gguf_put_f32(keys, arch_key(job, "rope.freq_base", key), (float)c->rope_theta);
    if (c->rope_scaling == LB_ROPE_LINEAR) {
        put_string(keys, arch_key(job, "rope.scaling.type", key), "linear");
        lb_gguf_put_f32(keys, arch_key(job, "rope.scaling.factor", key), (float)c->rope_factor);
    }
}

/* The model's own name is that of its file or folder, which need not be UTF-8, as GGUF's strings are. */
static lb_status put_name(const lb_checkpoint *checkpoint, lb_gguf_keys *keys, lb_error *err)
{
    size_t end = strlen(checkpoint->path);
    while (end > 1 && checkpoint->path[end - 1] == '/')
        end--;
    char *path = lb_strndup(checkpoint->path, end);
    if (!path)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its name", checkpoint->path);
    lb_text cleaned = {0};
    const char *name = lb_path_base(path);
    size_t length = strlen(name);
    const lb_status st = lb_utf8_clean(&cleaned, &name, &length, err);
    if (st == LB_OK)
        lb_gguf_put_string(keys, "general.name", name, length);
    lb_text_free(&cleaned);
    lb_free(path);
    return st;
}

static lb_status put_keys(const gguf_job *job, lb_gguf_keys *keys, lb_error *err)
{
    const lb_checkpoint *checkpoint = &job->weights->checkpoint;
    put_string(keys, "general.architecture", job->arch);
    put_string(keys, "general.type", "model");
    LB_TRY(put_name(checkpoint, keys, err));
    lb_gguf_put_u32(keys, "general.quantization_version", 2);
    put_shape(job, keys);
    LB_TRY(put_recipe(job, keys, err));
    return lb_gguf_put_vocabulary(keys, checkpoint, job->weights->config.vocab, err);
}

/* ---- Which tensors ----------------------------------------------------------------------------------- */

static lb_gguf_tensor_out *add_tensor(gguf_job *job, const lb_export_item *item, lb_dtype dtype)
{
    lb_gguf_tensor_out *t = &job->tensors[job->count];
    job->items[job->count++] = item;
    t->dtype = dtype;
    lb_export_count(&job->tally, lb_dtype_name(dtype));
    return t;
}

/* Floats: vectors are always F32, which is what ggml's operators on them take. */
static lb_dtype float_type(const gguf_job *job, const lb_export_item *item, lb_dtype asked)
{
    if (!item->matrix)
        return LB_DTYPE_F32;
    const bool blocks = asked == LB_DTYPE_Q8_0 && item->weight.cols % 32 == 0;
    if (job->options->dtype)
        return asked == LB_DTYPE_Q8_0 && !blocks ? LB_DTYPE_F16 : asked;
    return lb_export_stored_dtype(&item->weight);
}

static lb_status plan_item(gguf_job *job, const lb_export_item *item, lb_dtype asked, lb_error *err)
{
    const lb_weight *w = &item->weight;
    const bool coded = lb_export_has_codes(w);
    lb_dtype dtype = float_type(job, item, asked);
    lb_error why;
    bool exact = false;
    if (coded) {
        exact = lb_gguf_type_for(w, &dtype, &why) == LB_OK;
        if (!exact && !job->options->dequantize)
            return lb_fail(err, why.status,
                           "%s; --dequantize writes such layers as floats, and --to safetensors "
                           "everything",
                           why.msg);
        job->result->layers += exact;
        job->result->dequantized += !exact;
    }
    lb_gguf_tensor_out *t = add_tensor(job, item, dtype);
    if (!lb_gguf_name_of(w->name, t->name, sizeof t->name))
        return lb_fail(err, LB_EUNSUPPORTED, "%s: GGUF has no name for this tensor", w->name);
    t->rank = item->matrix ? 2 : 1;
    t->shape[0] = item->matrix ? w->rows : w->cols;
    t->shape[1] = w->cols;
    if (dtype != LB_DTYPE_NVFP4)
        return LB_OK;
    /* NVFP4's float of the tensor: NAME.scale beside NAME.weight. */
    char *scale_name = job->tensors[job->count].name;
    snprintf(scale_name, sizeof t->name, "%.*s.scale", (int)(strlen(t->name) - strlen(".weight")), t->name);
    job->numbers[job->count] = w->format.tensor_scale;
    lb_gguf_tensor_out *scale = add_tensor(job, NULL, LB_DTYPE_F32);
    scale->rank = 1;
    scale->shape[0] = 1;
    return LB_OK;
}

/* Llama 3's rule and lists of factors are one tensor. */
static lb_status plan_rope(gguf_job *job, lb_error *err)
{
    const lb_config *c = &job->weights->config;
    const size_t half = c->head_dim / 2;
    if (c->rope_scaling != LB_ROPE_LLAMA3 && c->rope_scaling != LB_ROPE_FACTORS)
        return LB_OK;
    LB_TRY(lb_alloc_array(&job->factors, half, sizeof *job->factors, "rotary factors", err));
    lb_config plain = *c;
    double unscaled[LB_MAX_HEAD_DIM / 2], scaled[LB_MAX_HEAD_DIM / 2];
    plain.rope_scaling = LB_ROPE_PLAIN;
    lb_rope_frequencies(&plain, unscaled);
    lb_rope_frequencies(c, scaled);
    for (size_t i = 0; i < half; i++)
        job->factors[i] = (float)(unscaled[i] / scaled[i]);
    lb_gguf_tensor_out *t = add_tensor(job, NULL, LB_DTYPE_F32);
    snprintf(t->name, sizeof t->name, "rope_freqs.weight");
    t->rank = 1;
    t->shape[0] = half;
    return LB_OK;
}

static lb_status plan(gguf_job *job, lb_error *err)
{
    lb_dtype asked;
    LB_TRY(lb_export_dtype(job->options->dtype, LB_DTYPE_F16, &asked, err));
    LB_TRY(lb_export_list_make(job->weights, &job->list, err));
    const size_t most = 2 * job->list.count + 1;
    job->tensors = lb_alloc_zero(most, sizeof *job->tensors);
    job->items = lb_alloc_zero(most, sizeof *job->items);
    job->numbers = lb_alloc_zero(most, sizeof *job->numbers);
    if (!job->tensors || !job->items || !job->numbers)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for the list of tensors", job->options->output);
    LB_TRY(plan_rope(job, err));
    for (size_t i = 0; i < job->list.count; i++) {
        LB_TRY(lb_progress_tell(&job->options->progress, "looking", i, job->list.count, err));
        LB_TRY(plan_item(job, &job->list.items[i], asked, err));
    }
    job->result->tensors = job->count;
    return LB_OK;
}

/* ---- Bytes ------------------------------------------------------------------------------------------- */

/* Llama's q and k: row 2j + i of a head is Hugging Face's row j + i * half of it. */
static size_t source_row(const gguf_job *job, const lb_export_item *item, size_t row)
{
    const size_t dim = job->weights->config.head_dim;
    if (!item->heads || !is_llama(job))
        return row;
    const size_t within = row % dim;
    return row - within + within / 2 + within % 2 * (dim / 2);
}

static lb_status put_vector(const gguf_job *job, const lb_export_item *item, lb_writer *writer, lb_error *err)
{
    const lb_weight *w = &item->weight;
    float *values = lb_alloc(w->cols, sizeof *values);
    uint8_t *bytes = lb_alloc(w->cols, sizeof(float));
    lb_status st = LB_OK;
    if (!values || !bytes)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for it", w->name));
    LB_GO(lb_weight_read(w, 0, 1, values, err));
    for (size_t i = 0; i < w->cols; i++)
        LB_GO(lb_export_narrow(w->name, values + source_row(job, item, i), 1, LB_DTYPE_F32,
                               bytes + i * sizeof(float), err));
    LB_GO(lb_writer_put(writer, bytes, w->cols * sizeof(float), err));
done:
    lb_free(values);
    lb_free(bytes);
    return st;
}

/* One row of a matrix as `dtype`. */
static lb_status make_row(const lb_weight *w, size_t index, lb_dtype dtype, lb_export_row *row, uint8_t *out,
                          lb_error *err)
{
    const bool narrow = dtype == LB_DTYPE_F32 || dtype == LB_DTYPE_F16 || dtype == LB_DTYPE_BF16;
    if (!narrow && lb_export_has_codes(w))
        return lb_gguf_blocks(w, dtype, index, row, out, err);
    LB_TRY(lb_weight_read(w, index, 1, row->values, err));
    if (narrow)
        return lb_export_narrow(w->name, row->values, w->cols, dtype, out, err);
    lb_gguf_round_q8_0(row->values, w->cols, out);
    return LB_OK;
}

static lb_status put_matrix(const gguf_job *job, const lb_export_item *item, lb_dtype dtype,
                            lb_writer *writer, lb_error *err)
{
    const lb_weight *w = &item->weight;
    const size_t bytes = w->cols / lb_dtype_block_elems(dtype) * lb_dtype_block_bytes(dtype);
    lb_export_row row = {0};
    uint8_t *out = NULL;
    lb_status st;
    LB_GO(lb_export_row_make(w, &row, err));
    LB_GO(lb_alloc_array(&out, bytes, 1, w->name, err));
    for (size_t i = 0; i < w->rows; i++) {
        LB_GO(make_row(w, source_row(job, item, i), dtype, &row, out, err));
        LB_GO(lb_writer_put(writer, out, bytes, err));
    }
    lb_weight_forget(job->weights, w);
done:
    lb_export_row_free(&row);
    lb_free(out);
    return st;
}

static lb_status put_numbers(const float *numbers, size_t count, lb_writer *writer, lb_error *err)
{
    uint8_t bytes[sizeof(float)];
    for (size_t i = 0; i < count; i++) {
        LB_TRY(lb_export_narrow("", numbers + i, 1, LB_DTYPE_F32, bytes, err));
        LB_TRY(lb_writer_put(writer, bytes, sizeof bytes, err));
    }
    return LB_OK;
}

static lb_status put_body(void *user, size_t index, lb_writer *writer, lb_error *err)
{
    gguf_job *job = user;
    const lb_export_item *item = job->items[index];
    LB_TRY(lb_progress_tell(&job->options->progress, "writing", index, job->count, err));
    if (!item)
        return index == 0 && job->factors
                   ? put_numbers(job->factors, job->tensors[index].shape[0], writer, err)
                   : put_numbers(&job->numbers[index], 1, writer, err);
    return item->matrix ? put_matrix(job, item, job->tensors[index].dtype, writer, err)
                        : put_vector(job, item, writer, err);
}

lb_status lb_export_gguf(const lb_weights *weights, const lb_export_options *options,
                         lb_export_result *result, lb_error *err)
{
    gguf_job job = {
        .weights = weights, .options = options, .result = result, .arch = architecture_of(&weights->config)};
    lb_gguf_keys keys = {0};
    lb_mapping written;
    lb_status st;
    LB_GO(plan(&job, err));
    LB_GO(put_keys(&job, &keys, err));
    LB_GO(lb_gguf_write(options->output, &keys, job.tensors, job.count, put_body, &job, err));
    result->without_tokenizer = weights->checkpoint.tokenizer == NULL;
    lb_export_tell(&job.tally, result->types, sizeof result->types);
    LB_GO(lb_map_open(options->output, &written, err));
    result->bytes = written.size;
    lb_map_close(&written);
done:
    lb_gguf_keys_free(&keys);
    lb_export_list_free(&job.list);
    lb_free(job.tensors);
    lb_free(job.items);
    lb_free(job.numbers);
    lb_free(job.factors);
    return st;
}
