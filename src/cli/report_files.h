/* SPDX-License-Identifier: MIT
 * Files of a report's folder. */
#ifndef LB_CLI_REPORT_FILES_H
#define LB_CLI_REPORT_FILES_H

#include "base/error.h"
#include "base/text.h"
#include "report/table.h"

/* Writes FOLDER/NAME, and frees the text or the table. */
lb_status lb_report_save(const char *folder, const char *name, lb_text *text, lb_error *err);
lb_status lb_report_save_csv(const char *folder, const char *name, lb_table table, lb_error *err);

#endif
