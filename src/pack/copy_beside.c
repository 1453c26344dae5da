/* SPDX-License-Identifier: MIT */
#include "pack/copy_beside.h"

#include <string.h>

#include "base/alloc.h"
#include "base/file.h"

/* Read, and understood, when the model was opened, wherever they are: as its weights. */
static bool is_models_own(const char *name)
{
    return strcmp(name, "tokenizer.json") == 0 || strcmp(name, "tokenizer_config.json") == 0;
}

/* A model may be a stranger's, and a link in it called LICENSE may lead to a file that is nobody's business. Hugging
 * Face's own cache has links alone, to a folder of "blobs": config.json, which was read as one, is there too. */
static bool may_be_copied(const char *name, const char *from, const char *config)
{
    if (lb_path_is_directory(from) || !lb_path_exists(from))
        return false;
    return is_models_own(name) || lb_path_belongs(from, config);
}

lb_status lb_copy_beside(const char *from_folder, const char *to_folder, lb_error *err)
{
    static const char *const names[] = {"tokenizer.json",    "tokenizer_config.json",
                                        "tokenizer.model",   "special_tokens_map.json",
                                        "vocab.json",        "merges.txt",
                                        "added_tokens.json", "chat_template.jinja",
                                        "LICENSE",           "generation_config.json"};
    char *config = lb_path_join(from_folder, "config.json");
    lb_status st = config ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a name", to_folder);
    for (size_t i = 0; st == LB_OK && i < sizeof names / sizeof *names; i++) {
        char *from = lb_path_join(from_folder, names[i]), *to = lb_path_join(to_folder, names[i]);
        st = from && to ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a name", to_folder);
        if (st == LB_OK && may_be_copied(names[i], from, config))
            st = lb_file_copy(from, to, err);
        lb_free(from);
        lb_free(to);
    }
    lb_free(config);
    return st;
}
