/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

static bool reserve(lb_text *text, size_t more)
{
    size_t wanted = text->length + more + 1;
    if (text->failed || wanted <= text->capacity)
        return !text->failed;
    size_t capacity = wanted < 64 ? 64 : wanted + wanted / 2;
    char *data = lb_grow(text->data, text->length, capacity, 1);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void lb_text_add(lb_text *text, const char *bytes, size_t length)
{
    if (!reserve(text, length))
        return;
    if (length)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void lb_text_add_string(lb_text *text, const char *string)
{
    lb_text_add(text, string, strlen(string));
}

void lb_text_add_format(lb_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(text, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
}

void lb_text_free(lb_text *text)
{
    lb_free(text->data);
    *text = (lb_text){0};
}
