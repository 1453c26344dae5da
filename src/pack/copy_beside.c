/* SPDX-License-Identifier: MIT */
#include "pack/copy_beside.h"

#include "base/alloc.h"
#include "base/file.h"

lb_status lb_copy_beside(const char *from_folder, const char *to_folder, lb_error *err)
{
    static const char *const names[] = {"tokenizer.json",    "tokenizer_config.json",
                                        "tokenizer.model",   "special_tokens_map.json",
                                        "vocab.json",        "merges.txt",
                                        "added_tokens.json", "chat_template.jinja",
                                        "LICENSE",           "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *from = lb_path_join(from_folder, names[i]), *to = lb_path_join(to_folder, names[i]);
        lb_status st = from && to ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a name", to_folder);
        if (st == LB_OK && lb_path_exists(from) && !lb_path_is_directory(from))
            st = lb_file_copy(from, to, err);
        lb_free(from);
        lb_free(to);
        LB_TRY(st);
    }
    return LB_OK;
}
