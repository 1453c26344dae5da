/* SPDX-License-Identifier: MIT */
#include "train/train_log.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"

static const char heading[] =
    "step,tokens,learning_rate,loss,grad_norm,weight_norm,valid_loss,tokens_per_second,seconds\n";
static const double SECONDS_BETWEEN_WRITES = 5.0;
enum { MAX_LOG_BYTES = 1 << 28 };

/* How many bytes of a log are rows up to `step`. */
static size_t rows_until(const char *text, uint64_t step)
{
    const char *at = text;
    if (strncmp(text, heading, sizeof heading - 1) != 0)
        return 0;
    at += sizeof heading - 1;
    for (const char *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        if (strtoull(at, NULL, 10) > step)
            break;
    return (size_t)(at - text);
}

lb_status lb_train_log_open(const char *run, uint64_t step, lb_train_log *out, lb_error *err)
{
    lb_train_log log = {.path = lb_path_join(run, "log.csv"), .written = lb_now()};
    char *old = NULL;
    size_t size, kept = 0;
    lb_status st = log.path ? LB_OK : lb_fail(err, LB_ENOMEM, "log: no memory");
    if (st == LB_OK && lb_path_exists(log.path)) {
        st = lb_file_read_text(log.path, MAX_LOG_BYTES, &old, &size, err);
        if (st == LB_OK)
            lb_text_add(&log.text, old, kept = rows_until(old, step));
    }
    if (kept == 0)
        lb_text_add_string(&log.text, heading);
    lb_free(old);
    if (st == LB_OK && log.text.failed)
        st = lb_fail(err, LB_ENOMEM, "log: no memory");
    if (st == LB_OK)
        *out = log;
    else
        lb_train_log_free(&log);
    return st;
}

void lb_train_log_free(lb_train_log *log)
{
    lb_free(log->path);
    lb_text_free(&log->text);
    *log = (lb_train_log){0};
}

lb_status lb_train_log_add(lb_train_log *log, const lb_train_row *r, double seconds, lb_error *err)
{
    lb_text_add_format(&log->text, "%" PRIu64 ",%" PRIu64 ",%.9g,%.6f,%.6g,%.6g,", r->step, r->tokens,
                       r->rate, r->loss, r->grad_norm, r->weight_norm);
    if (!isnan(r->valid_loss))
        lb_text_add_format(&log->text, "%.6f", r->valid_loss);
    lb_text_add_format(&log->text, ",%.0f,%.1f\n", r->tokens_per_second, seconds);
    return lb_now() - log->written < SECONDS_BETWEEN_WRITES ? LB_OK : lb_train_log_flush(log, err);
}

lb_status lb_train_log_flush(lb_train_log *log, lb_error *err)
{
    if (log->text.failed)
        return lb_fail(err, LB_ENOMEM, "log: no memory");
    log->written = lb_now();
    return lb_file_replace(log->path, log->text.data, log->text.length, err);
}

/* "1200,4915200,0.003,4.1,0.9,80.1,,1500,3.2": the held-out loss may be left out. */
static bool parse_row(const char *line, lb_train_row *out)
{
    double fields[9];
    char *end;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const bool empty = *line == ',' || *line == '\n';
        fields[i] = empty ? NAN : strtod(line, &end);
        line = empty ? line : end;
        if (*line != (i + 1 < sizeof fields / sizeof *fields ? ',' : '\n'))
            return false;
        line++;
    }
    if (!(fields[0] >= 0 && fields[0] < 1e18 && fields[1] >= 0 && fields[1] < 1e18))
        return false;
    *out = (lb_train_row){.step = (uint64_t)fields[0],
                          .tokens = (uint64_t)fields[1],
                          .rate = fields[2],
                          .loss = fields[3],
                          .grad_norm = fields[4],
                          .weight_norm = fields[5],
                          .valid_loss = fields[6],
                          .tokens_per_second = fields[7]};
    return true;
}

lb_status lb_train_log_find(const char *run, uint64_t step, lb_train_row *out, bool *found, lb_error *err)
{
    lb_train_log log;
    *found = false;
    LB_TRY(lb_train_log_open(run, step, &log, err));
    const size_t length = log.text.length;
    if (length > sizeof heading) { /* the last line begins after the newline before the last */
        size_t at = length - 1;
        while (at > 0 && log.text.data[at - 1] != '\n')
            at--;
        *found = parse_row(log.text.data + at, out);
    }
    lb_train_log_free(&log);
    return LB_OK;
}
