/* SPDX-License-Identifier: MIT
 * lb_export: which kinds there are, and what must hold before one is written. */
#include "lowbit/export.h"

#include <string.h>

#include "base/file.h"
#include "base/options.h"
#include "export/to_auto_round.h"
#include "export/to_awq.h"
#include "export/to_compressed.h"
#include "export/to_gguf.h"
#include "export/to_gptq.h"
#include "export/to_safetensors.h"

typedef lb_status (*export_fn)(const lb_weights *weights, const lb_export_options *options,
                               lb_export_result *result, lb_error *err);

static const struct {
    const char *name;
    export_fn run;
    bool packs; /* holds codes, which have no place for what is done to inputs at run time */
} kinds[] = {
    {"gguf", lb_export_gguf, true},
    {"safetensors", lb_export_safetensors, false},
    {"gptq", lb_export_gptq, true},
    {"awq", lb_export_awq, true},
    {"auto-round", lb_export_auto_round, true},
    {"compressed-tensors", lb_export_compressed, true},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

const char *lb_export_kinds(void)
{
    return "gguf|safetensors|gptq|awq|auto-round|compressed-tensors";
}

void lb_export_options_init_sized(lb_export_options *options, size_t size)
{
    const lb_export_options defaults = {.struct_size = sizeof defaults};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

/* A rotation of inputs, or their order, is part of what the stored codes mean. */
static lb_status check_inputs(const lb_weights *weights, const char *kind, lb_error *err)
{
    if (weights->transform.kind != LB_TRANSFORM_NONE)
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s: the inputs of its layers are rotated at run time, which %s cannot say; --to safetensors "
            "writes the weights with the rotation undone",
            weights->checkpoint.path, kind);
    if (lb_act_masks(&weights->act))
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: the inputs of its layers are reordered at run time, which %s cannot say; --to "
                       "safetensors writes the weights in their own order",
                       weights->checkpoint.path, kind);
    return LB_OK;
}

lb_status lb_export(const lb_export_options *options, lb_export_result *result, lb_error *err)
{
    lb_export_options o;
    lb_weights *weights = NULL;
    lb_export_result made = {0};
    size_t kind = 0;
    lb_status st;
    lb_export_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_export_options", err));
    if (!o.model || !o.output || !o.kind)
        return lb_fail(err, LB_EINVAL, "exporting needs a model, an output and a kind");
    while (kind < KINDS && strcmp(kinds[kind].name, o.kind) != 0)
        kind++;
    if (kind == KINDS)
        return lb_fail(err, LB_EINVAL, "kind \"%.40s\" is not known: there are %s", o.kind,
                       lb_export_kinds());
    if (o.dtype && strcmp(o.dtype, "q8_0") == 0 && strcmp(o.kind, "gguf") != 0)
        return lb_fail(err, LB_EINVAL, "q8_0 is a type of GGUF files, and %s has none", o.kind);
    if (o.zeros_v2 && strcmp(o.kind, "gptq") != 0)
        return lb_fail(err, LB_EINVAL, "the version of zero points is a choice of gptq, not of %s", o.kind);
    if (o.naive && strcmp(o.kind, "compressed-tensors") != 0)
        return lb_fail(err, LB_EINVAL, "a naive layout is a choice of compressed-tensors, not of %s", o.kind);
    if (lb_path_exists(o.output))
        return lb_fail(err, LB_EEXIST, "the output %s exists already; choose another name or delete it",
                       o.output);
    LB_TRY(lb_weights_open(o.model, &weights, err));
    if (kinds[kind].packs)
        LB_GO(check_inputs(weights, o.kind, err));
    LB_GO(kinds[kind].run(weights, &o, &made, err));
    *result = made;
done:
    lb_weights_close(weights);
    return st;
}
