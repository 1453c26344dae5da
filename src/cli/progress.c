/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/progress.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_CELLS = 24 };
static const double REPAINT_SECONDS = 0.1;

static volatile sig_atomic_t stop_asked;
/* Ctrl-C, kill, and the terminal that is closed. */
static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOPS = sizeof stops / sizeof *stops };
static struct sigaction before[STOPS];

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

bool lb_interrupted(void)
{
    return stop_asked != 0;
}

const char *lb_duration_text(double seconds, char buffer[32])
{
    long total = seconds > 0 ? (long)(seconds + 0.5) : 0;
    if (total >= 3600)
        snprintf(buffer, 32, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
    else
        snprintf(buffer, 32, "%ld:%02ld", total / 60, total % 60);
    return buffer;
}

static void paint_bar(lb_cli_progress *p, size_t done, size_t total, double now)
{
    char cells[BAR_CELLS + 1], left[32] = "";
    double share = total ? (double)done / (double)total : 0;
    size_t filled = (size_t)(share * BAR_CELLS);
    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', filled < BAR_CELLS ? filled : BAR_CELLS);
    cells[BAR_CELLS] = '\0';
    fprintf(p->out, "\r[%s] %3.0f%%  %s", cells, 100 * share, p->stage);
    double elapsed = now - p->began;
    if (done > p->began_done && done < total && elapsed > 1)
        fprintf(p->out, "  %s left",
                lb_duration_text(elapsed * (double)(total - done) / (double)(done - p->began_done), left));
    fputs("\x1b[K", p->out); /* erases what a longer line left behind */
    fflush(p->out);
    p->drawn = now;
    p->shown = true;
}

static int tell(void *user, const char *stage, size_t done, size_t total)
{
    lb_cli_progress *p = user;
    if (total == 0)
        return stop_asked;
    double now = lb_now();
    bool changed = !p->started || strcmp(p->stage, stage) != 0;
    if (!p->started) {
        p->started = true;
        p->began = now;
        p->began_done = done;
    }
    snprintf(p->stage, sizeof p->stage, "%s", stage);
    if (p->quiet)
        return stop_asked;
    if (p->terminal) {
        if (changed || done == total || now - p->drawn >= REPAINT_SECONDS)
            paint_bar(p, done, total, now);
    } else if (changed) {
        fprintf(p->out, "%s\n", stage);
        fflush(p->out);
    }
    return stop_asked;
}

lb_progress lb_cli_progress_begin(lb_cli_progress *progress, bool quiet)
{
    *progress = (lb_cli_progress){.out = stderr, .quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
    stop_asked = 0;
    /* SA_RESETHAND: the second signal meets the default action, and kills. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < STOPS; i++) {
        sigaction(stops[i], NULL, &before[i]);
        if (before[i].sa_handler !=
            SIG_IGN) /* a shell's background job keeps ignoring Ctrl-C, and nohup's SIGHUP */
            sigaction(stops[i], &action, NULL);
    }
    return (lb_progress){.fn = tell, .user = progress};
}

void lb_cli_progress_end(lb_cli_progress *progress)
{
    if (progress->shown) {
        fputs("\r\x1b[K", progress->out);
        fflush(progress->out);
    }
    progress->shown = false;
    for (size_t i = 0; i < STOPS; i++)
        sigaction(stops[i], &before[i], NULL);
}
