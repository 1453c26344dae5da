/* SPDX-License-Identifier: MIT */
#include "train/model_folder.h"

#include "base/alloc.h"
#include "base/half.h"
#include "base/json.h"
#include "io/safetensors.h"

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "checkpoint: no memory");
}

static lb_status write_weights(const lb_model_folder *m, const float *values, const char *path, lb_error *err)
{
    const lb_parameters *p = m->parameters;
    lb_tensor_out *tensors = NULL;
    uint16_t *halves = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&tensors, p->count, sizeof *tensors, "checkpoint", err));
    if (m->dtype == LB_DTYPE_BF16) {
        LB_GO(lb_alloc_array(&halves, p->floats, sizeof *halves, "checkpoint", err));
        for (size_t i = 0; i < p->floats; i++)
            halves[i] = lb_bf16_from_float(values[i]);
    }
    for (size_t i = 0; i < p->count; i++) {
        const lb_parameter *one = &p->list[i];
        const bool is_vector = one->kind == LB_PARAMETER_NORM || one->kind == LB_PARAMETER_BIAS;
        tensors[i] = (lb_tensor_out){.name = one->name,
                                     .dtype = m->dtype,
                                     .rank = is_vector ? 1 : 2,
                                     .data = halves ? (const void *)(halves + one->at) : values + one->at,
                                     .bytes = one->rows * one->cols * lb_dtype_block_bytes(m->dtype)};
        tensors[i].shape[0] = is_vector ? one->cols : one->rows;
        tensors[i].shape[1] = is_vector ? 0 : one->cols;
    }
    LB_GO(lb_safetensors_write(path, tensors, p->count, err));
done:
    lb_free(tensors);
    lb_free(halves);
    return st;
}

static lb_status save(const char *folder, const char *name, const json_t *json, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    if (!path)
        return no_memory(err);
    const lb_status st = json ? lb_json_save(path, json, err) : LB_OK;
    lb_free(path);
    return st;
}

lb_status lb_model_folder_write(const lb_model_folder *m, const float *values, const char *folder,
                                lb_error *err)
{
    char *path = lb_path_join(folder, "model.safetensors");
    if (!path)
        return no_memory(err);
    const lb_status st = write_weights(m, values, path, err);
    lb_free(path);
    LB_TRY(st);
    LB_TRY(save(folder, "config.json", m->config, err));
    LB_TRY(save(folder, "tokenizer.json", m->tokenizer, err));
    return save(folder, "tokenizer_config.json", m->tokenizer_config, err);
}
