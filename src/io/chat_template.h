/* SPDX-License-Identifier: MIT
 * Chat templates, recognised by family: what a checkpoint's Jinja text would write, without Jinja. */
#ifndef LB_IO_CHAT_TEMPLATE_H
#define LB_IO_CHAT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

typedef enum lb_chat_family {
    LB_CHAT_NONE, /* the checkpoint has no chat template */
    LB_CHAT_UNKNOWN, /* it has one that lowbit does not know */
    LB_CHAT_CHATML, /* <|im_start|>role\ncontent<|im_end|>\n */
    LB_CHAT_LLAMA3 /* <|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|> */
} lb_chat_family;

typedef struct lb_chat_format {
    lb_chat_family family;
    char *default_system; /* put before the first turn when that is not a system turn; or NULL */
    char *system_preface; /* what every system turn begins with (the dates of Llama 3.1); or NULL */
    char *answer_opening; /* what follows "assistant" in the last header: newlines, rarely "\n<think>\n" */
    bool begins_with_bos;
    bool trims; /* spaces around a turn's text are taken off */
} lb_chat_format;

/* Finds the family of tokenizer_config["chat_template"] (a text, or a list of {name, template}, of
 * which "default" or the first counts). */
lb_status lb_chat_format_read(const json_t *tokenizer_config, const char *where, lb_chat_format *out,
                              lb_error *err);
void lb_chat_format_free(lb_chat_format *format);

#endif
