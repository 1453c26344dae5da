/* SPDX-License-Identifier: MIT */
#include "model/inputs.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cast.h"

/* A rotation's size where the format has no groups to follow. */
enum { ROW_CHUNK = 128 };

static const char *const rescale_names[] = {[LB_RESCALE_SMOOTH] = "smooth", [LB_RESCALE_AWQ] = "awq"};

/* "smooth" or "awq", alone or with "+" and a rotation after it; where it is neither, nothing is taken. */
static lb_rescale parse_rescale(const char *name, const char **rest)
{
    for (unsigned i = LB_RESCALE_SMOOTH; i <= LB_RESCALE_AWQ; i++) {
        const size_t length = strlen(rescale_names[i]);
        if (strncmp(name, rescale_names[i], length) != 0 || (name[length] && name[length] != '+'))
            continue;
        *rest = name[length] ? name + length + 1 : "none";
        return (lb_rescale)i;
    }
    return LB_RESCALE_NONE;
}

lb_status lb_transform_parse(const char *name, lb_transform *out, lb_error *err)
{
    lb_transform t = {.kind = LB_TRANSFORM_HADAMARD, .strength = 0.5};
    const char *whole = name;
    int used = 0;
    t.rescale = parse_rescale(name, &name);
    t.clip = t.rescale == LB_RESCALE_AWQ;
    if (strcmp(name, "none") == 0)
        t.kind = LB_TRANSFORM_NONE;
    else if (strcmp(name, "hadamard") == 0)
        t.by_format = true;
    else if (strcmp(name, "hadamard-full") == 0)
        t.block = 0;
    else if (sscanf(name, "hadamard-%7zu%n", &t.block, &used) == 1 && name[used] == '\0' && t.block > 0 &&
             name[9] >= '1' && name[9] <= '9')
        t.strict = true;
    else
        return lb_fail(
            err, LB_EINVAL,
            "transform \"%.40s\" is not known: there are none, hadamard, hadamard-N, hadamard-full, "
            "smooth, awq, and the last two with +hadamard",
            whole);
    *out = t;
    return LB_OK;
}

size_t lb_stage_width(const lb_config *config, lb_stage stage)
{
    size_t rows, cols = 0;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        if (lb_block_linears[which].stage == stage)
            lb_linear_shape(config, which, &rows, &cols);
    }
    return cols;
}

size_t lb_widest_input(const lb_config *config)
{
    size_t widest = 0;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(config, (lb_stage)stage);
        widest = width > widest ? width : widest;
    }
    return widest;
}

static const char *const stage_names[LB_STAGE_COUNT] = {[LB_STAGE_QKV] = "q_proj, k_proj and v_proj",
                                                        [LB_STAGE_O] = "o_proj",
                                                        [LB_STAGE_GATE_UP] = "gate_proj and up_proj",
                                                        [LB_STAGE_DOWN] = "down_proj"};

lb_status lb_act_check(const lb_act *act, const lb_transform *transform, const lb_config *config,
                       lb_error *err)
{
    if (lb_act_masks(act) && transform->kind != LB_TRANSFORM_NONE)
        return lb_fail(
            err, LB_EINVAL,
            "activation format %s chooses channels, which a rotation mixes: leave one of the two away, "
            "or take %s-dynamic",
            act->name, act->name);
    for (unsigned stage = 0; act->bank > 0 && stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(config, (lb_stage)stage);
        if (width % act->bank != 0)
            return lb_fail(
                err, LB_EINVAL,
                "activation format %s does not fit: banks of %zu do not divide the %zu inputs of %s",
                act->name, act->bank, width, stage_names[stage]);
    }
    return LB_OK;
}

lb_status lb_transform_resolve(lb_transform *t, const lb_format *format, const lb_config *config,
                               lb_error *err)
{
    char name[LB_TRANSFORM_NAME_BYTES];
    if (t->kind == LB_TRANSFORM_NONE)
        return LB_OK;
    if (t->by_format) {
        t->block = format && format->group ? format->group : ROW_CHUNK;
        t->by_format = false;
    }
    lb_transform_name(t, name);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++) {
        const size_t width = lb_stage_width(config, (lb_stage)stage);
        if (t->strict && width % t->block != 0)
            return lb_fail(
                err, LB_EINVAL,
                "transform %s does not fit: %zu does not divide the %zu inputs of %s; \"hadamard\" "
                "chooses sizes that fit",
                name, t->block, width, stage_names[stage]);
        if (!lb_hadamard_order_exists(t->block ? t->block : width))
            return lb_fail(
                err, LB_EINVAL,
                "transform %s does not fit %s: no Hadamard matrix of order %zu is known here (orders "
                "are products of 2, 12, 20 and 28); \"hadamard\" chooses sizes that fit",
                name, stage_names[stage], t->block ? t->block : width);
    }
    return LB_OK;
}

void lb_transform_name(const lb_transform *t, char out[LB_TRANSFORM_NAME_BYTES])
{
    const char *before = t->rescale ? rescale_names[t->rescale] : "";
    const char *plus = t->rescale && t->kind != LB_TRANSFORM_NONE ? "+" : "";
    if (t->kind == LB_TRANSFORM_NONE)
        snprintf(out, LB_TRANSFORM_NAME_BYTES, "%s", t->rescale ? before : "none");
    else if (t->block == 0)
        snprintf(out, LB_TRANSFORM_NAME_BYTES, "%s%s%s", before, plus,
                 t->by_format ? "hadamard" : "hadamard-full");
    else
        snprintf(out, LB_TRANSFORM_NAME_BYTES, "%s%shadamard-%zu", before, plus, t->block);
}

lb_status lb_inputs_create(const lb_config *config, const lb_transform *transform, const lb_act *act,
                           lb_inputs *out, lb_error *err)
{
    lb_inputs inputs = {0};
    lb_status st = LB_OK;
    if (act)
        inputs.act = *act;
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        inputs.widths[stage] = lb_stage_width(config, (lb_stage)stage);
    for (unsigned stage = 0; transform->kind == LB_TRANSFORM_HADAMARD && stage < LB_STAGE_COUNT; stage++)
        LB_GO(lb_rotation_create(inputs.widths[stage], transform->block, true, transform->seed + stage,
                                 &inputs.rotations[stage], err));
    *out = inputs;
    inputs = (lb_inputs){0};
done:
    lb_inputs_free(&inputs);
    return st;
}

void lb_inputs_free(lb_inputs *inputs)
{
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_rotation_destroy(inputs->rotations[stage]);
    *inputs = (lb_inputs){0};
}

bool lb_inputs_round(const lb_inputs *inputs)
{
    return inputs && !lb_act_keeps(&inputs->act);
}

void lb_inputs_rotate(const lb_kernels *kernels, const lb_inputs *inputs, lb_stage stage, float *x,
                      size_t tokens)
{
    if (inputs && inputs->rotations[stage])
        lb_rotation_apply(kernels, inputs->rotations[stage], x, tokens);
}

lb_status lb_inputs_prepare(const lb_kernels *kernels, const lb_inputs *inputs, lb_stage stage, float *x,
                            size_t tokens, lb_error *err)
{
    lb_inputs_rotate(kernels, inputs, stage, x, tokens);
    if (!lb_inputs_round(inputs))
        return LB_OK;
    return lb_cast_act(kernels, &inputs->act, x, tokens, inputs->widths[stage], err);
}
