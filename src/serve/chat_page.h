/* SPDX-License-Identifier: MIT
 * chat_page.html, embedded when lowbit is built. */
#ifndef LB_SERVE_CHAT_PAGE_H
#define LB_SERVE_CHAT_PAGE_H

#include <stddef.h>

extern const unsigned char lb_chat_page[];
extern const size_t lb_chat_page_size;

#endif
