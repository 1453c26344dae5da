/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/command.h"
#include "io/utf8.h"

void lb_output_start(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* Opened the wrong way round on purpose: a write to a closed stdout still fails. */
        int got = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        if (got > 2)
            close(got);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file over the shell's limit: write says so, and we can */
}

lb_status lb_output_flush(lb_error *err)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return LB_OK;
    int reason = errno;
    if (reason == 0) /* it failed while printing; that reason is gone */
        return lb_fail(err, LB_EIO, "cannot write to standard output");
    return lb_fail(err, reason == ENOSPC ? LB_ENOSPC : LB_EIO, "cannot write to standard output: %s",
                   strerror(reason));
}

int lb_cli_misused(const char *command, const char *sentence)
{
    fprintf(stderr, "lowbit %s: %s (see: lowbit %s -h)\n", command, sentence, command);
    return LB_EXIT_USAGE;
}

int lb_cli_failed(const char *command, const lb_error *err, bool resumable)
{
    const char *more = "";
    if (err->status == LB_ECANCELED && resumable)
        more = "; what was finished is kept, and the same command with --resume goes on from there";
    fprintf(stderr, "lowbit %s: %s%s\n", command, err->msg, more);
    return err->status == LB_ECANCELED ? LB_EXIT_INTERRUPTED : LB_EXIT_FAILED;
}

lb_status lb_output_json(json_t *object, lb_error *err)
{
    int failed = json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(object);
    putchar('\n');
    lb_status st = lb_output_flush(err);
    if (st == LB_OK && failed)
        st = lb_fail(err, LB_ENOMEM, "standard output: no memory for the JSON");
    return st;
}

static void add_word(const char *word, lb_text *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,/:@%";
    if (*word && word[strspn(word, plain)] == '\0') {
        lb_text_add_string(out, word);
        return;
    }
    lb_text_add_string(out, "'");
    for (; *word; word++)
        if (*word == '\'')
            lb_text_add_string(out, "'\\''");
        else
            lb_text_add(out, word, 1);
    lb_text_add_string(out, "'");
}

void lb_command_text(int argc, char **argv, lb_text *out)
{
    lb_text_add_string(out, "lowbit");
    for (int i = 0; i < argc; i++) {
        lb_text_add_string(out, " ");
        add_word(argv[i], out);
    }
}

const char *lb_bytes_text(double bytes, char buffer[32])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    snprintf(buffer, 32, "%.*f %s", unit > 0 && bytes < 99.95 ? 1 : 0, bytes, units[unit]);
    return buffer;
}

const char *lb_count_text(size_t count, char buffer[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%zu", count);
    char *to = buffer;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return buffer;
}

json_t *lb_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *lb_json_text(const char *bytes)
{
    json_t *json = json_string(bytes);
    lb_text text = {0};
    for (size_t at = 0, left = strlen(bytes), used; !json && left > 0; at += used, left -= used) {
        uint32_t code;
        const bool valid = lb_utf8_next(bytes + at, left, &code, &used) == LB_UTF8_VALID;
        lb_text_add(&text, valid ? bytes + at : LB_UTF8_REPLACEMENT, valid ? used : 3);
    }
    if (!json && text.data && !text.failed)
        json = json_string(text.data);
    lb_text_free(&text);
    return json;
}
