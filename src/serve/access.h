/* SPDX-License-Identifier: MIT
 * Who may ask: keys, and pages of other sites that a browser lets talk to this machine. */
#ifndef LB_SERVE_ACCESS_H
#define LB_SERVE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

/* Whether an Authorization header (may be NULL) is "Bearer KEY". The time it takes does not tell where they differ. */
bool lb_access_key(const char *authorization, const char *key);

/* Whether a Host header names this machine as such: a number, or localhost, with or without a port. A name that
 * somebody's DNS made point here is what a page of another site would send (DNS rebinding). */
bool lb_access_host(const char *host);

/* Whether an Origin header (NULL: no browser's page) is the site that Host names. */
bool lb_access_origin(const char *origin, const char *host);

/* Whether an address to listen on is this machine's own. */
bool lb_access_is_loopback(const char *host);

#endif
