/* SPDX-License-Identifier: MIT
 * How commands speak: data on stdout, one sentence on stderr when something cannot be done. */
#ifndef LB_CLI_OUTPUT_H
#define LB_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

/* Call once, first: a closed stdout or stderr must not become the next file that is opened, and a
 * reader that went away or a file beyond the size limit must be an error of write, not a silent death. */
void lb_output_start(void);

/* Pushes what was printed to its reader. A generation that streams calls this for every piece of
 * text, to stop when nobody reads any more. */
lb_status lb_output_flush(lb_error *err);

/* "lowbit COMMAND: sentence (see: lowbit COMMAND -h)" -> LB_EXIT_USAGE. */
int lb_cli_misused(const char *command, const char *sentence);

/* "lowbit COMMAND: sentence" -> LB_EXIT_FAILED, or LB_EXIT_INTERRUPTED for LB_ECANCELED, with a word
 * on how to go on where the work can be resumed. A flag whose value the library refuses (a format's
 * name, say) is rather a case for lb_cli_misused. */
int lb_cli_failed(const char *command, const lb_error *err, bool resumable);

/* "lowbit quantize 'my model' ...": what was typed, as a shell takes it. argv begins with the command's name. */
void lb_command_text(int argc, char **argv, lb_text *out);

/* Prints one JSON object and its newline, and drops the reference. */
lb_status lb_output_json(json_t *object, lb_error *err);

/* A JSON string of any bytes: what is no UTF-8 (a path may be) becomes U+FFFD. NULL without memory. */
json_t *lb_json_text(const char *bytes);
/* A JSON number; null where it is not finite, which JSON has no word for. */
json_t *lb_json_number(double value);

/* "1.2 GB", "532 MB", "17 bytes" into buffer [32]; returns it. Powers of ten, as disks are sold. */
const char *lb_bytes_text(double bytes, char buffer[32]);

/* "134,515,008" into buffer [32]; returns it. */
const char *lb_count_text(size_t count, char buffer[32]);

#endif
