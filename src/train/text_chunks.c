/* SPDX-License-Identifier: MIT */
#include "train/text_chunks.h"

#include <stdbool.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

size_t lb_text_chunk_end(const char *text, size_t length, size_t begin, size_t target)
{
    enum { PATIENCE = 16 };
    if (length - begin <= target)
        return length;
    const size_t last = (length - begin) / PATIENCE > target ? begin + PATIENCE * target : length;
    for (size_t at = begin + target; at < last; at++)
        if (text[at] == '\n' && is_letter(text[at - 1]))
            return at;
    size_t at = last;
    while (at < length && at > begin + 1 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--; /* back to the first byte of a character */
    return at;
}
