/* SPDX-License-Identifier: MIT */
#include "serve/access.h"

#include <string.h>
#include <strings.h>

bool lb_access_key(const char *authorization, const char *key)
{
    static const char scheme[] = "Bearer ";
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *shown = authorization + sizeof scheme - 1;
    const size_t shown_length = strlen(shown), length = strlen(key);
    unsigned differ = shown_length != length;
    for (size_t i = 0; i < shown_length; i++)
        differ |= (unsigned)(unsigned char)shown[i] ^ (unsigned)(unsigned char)key[length ? i % length : 0];
    return differ == 0;
}

bool lb_access_host(const char *host)
{
    static const char localhost[] = "localhost";
    if (!host)
        return true; /* HTTP/1.0: no browser */
    if (host[0] == '[')
        return true;
    if (strspn(host, "0123456789.:") == strlen(host))
        return true;
    return strncasecmp(host, localhost, sizeof localhost - 1) == 0 &&
           (host[sizeof localhost - 1] == '\0' || host[sizeof localhost - 1] == ':');
}

bool lb_access_origin(const char *origin, const char *host)
{
    const char *name;
    if (!origin)
        return true;
    name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

bool lb_access_is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcasecmp(host, "localhost") == 0;
}
