/* SPDX-License-Identifier: MIT */
#include "cli/report_files.h"

#include "base/alloc.h"
#include "base/file.h"

lb_status lb_report_save(const char *folder, const char *name, lb_text *text, lb_error *err)
{
    char *path = lb_path_join(folder, name);
    const lb_status st = path && !text->failed
                             ? lb_file_replace(path, text->data ? text->data : "", text->length, err)
                             : lb_fail(err, LB_ENOMEM, "no memory to write %s", name);
    lb_free(path);
    lb_text_free(text);
    return st;
}

lb_status lb_report_save_csv(const char *folder, const char *name, lb_table table, lb_error *err)
{
    lb_text text = {0};
    lb_table_csv(&table, &text);
    lb_table_free(&table);
    return lb_report_save(folder, name, &text, err);
}
