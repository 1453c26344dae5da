/* SPDX-License-Identifier: MIT
 * The four Unicode normalization forms (UAX #15), in time linear in the text whatever it is made of. */
#ifndef LB_IO_UNICODE_FORM_H
#define LB_IO_UNICODE_FORM_H

#include "base/error.h"
#include "base/text.h"

typedef enum lb_unicode_form { LB_FORM_NFC, LB_FORM_NFD, LB_FORM_NFKC, LB_FORM_NFKD } lb_unicode_form;

/* Appends the normalized text [length], which is valid UTF-8, to *out. Running out of memory sets
 * out->failed or fails. */
lb_status lb_unicode_normalize(lb_unicode_form form, const char *text, size_t length, lb_text *out,
                               lb_error *err);

#endif
