/* SPDX-License-Identifier: MIT
 * Progress on stderr, and Ctrl-C: a bar with the time left where stderr is a terminal, otherwise one
 * line per stage. The first SIGINT, SIGTERM or SIGHUP asks the work to stop, the second
 * kills the process. */
#ifndef LB_CLI_PROGRESS_H
#define LB_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

#include "lowbit/status.h"

typedef struct lb_cli_progress {
    FILE *out;
    bool quiet, terminal;
    char stage[64];
    double began, drawn; /* seconds; `drawn` is when the bar was last painted */
    size_t began_done;   /* `done` of the first call, so that resumed work has an honest speed */
    bool started, shown;
} lb_cli_progress;

/* Starts to watch for SIGINT, SIGTERM and SIGHUP. `progress` outlives what is returned, which goes to the
 * library. Always pair it with lb_cli_progress_end. */
lb_progress lb_cli_progress_begin(lb_cli_progress *progress, bool quiet);

/* Wipes the bar, and gives the signals back to whoever had them. */
void lb_cli_progress_end(lb_cli_progress *progress);

/* Whether a signal has asked to stop since the last begin. */
bool lb_interrupted(void);

/* "3:07", "1:02:45" into buffer [32]; returns it. */
const char *lb_duration_text(double seconds, char buffer[32]);

#endif
