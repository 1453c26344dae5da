/* SPDX-License-Identifier: MIT */
#include "io/checkpoint.h"
#include "io/tokenizer.h"

lb_status lb_tokenizer_open(const char *model_path, lb_tokenizer **out, lb_error *err)
{
    lb_checkpoint checkpoint;
    LB_TRY(lb_checkpoint_open(model_path, &checkpoint, err));
    lb_status st;
    if (!checkpoint.tokenizer)
        st = lb_fail(err, LB_EFORMAT, "%s: the model has no tokenizer (tokenizer.json is missing)",
                     model_path);
    else
        st = lb_tokenizer_create(checkpoint.tokenizer, checkpoint.tokenizer_config, model_path, out, err);
    lb_checkpoint_close(&checkpoint);
    return st;
}
