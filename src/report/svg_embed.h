/* SPDX-License-Identifier: MIT
 *
 * An SVG file made a part of an HTML page. As a file it has names of its own and may ask for anything; on a
 * page with others its names would clash, and whatever it loads or runs the page would. So it is copied tag
 * by tag: the XML prologue goes, every name gets a prefix wherever it is given or used (id, href, url()),
 * and what is not a picture and nothing else is refused.
 *
 * Refused: elements besides shapes, text, gradients, filters and their like (scripts, styles, images,
 * links), attributes that hold handlers ("onclick"), references that leave the file, document types that
 * define entities, and what is not well formed.
 */
#ifndef LB_REPORT_SVG_EMBED_H
#define LB_REPORT_SVG_EMBED_H

#include "base/error.h"
#include "base/text.h"

/* Appends the <svg> element of svg [bytes] to *out. LB_EFORMAT says what is wrong, and at which byte. */
lb_status lb_svg_embed(const char *svg, size_t bytes, const char *prefix, lb_text *out, lb_error *err);

#endif
