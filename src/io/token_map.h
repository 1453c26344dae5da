/* SPDX-License-Identifier: MIT
 * The hash tables of the tokenizer: strings to ids, and pairs of 32-bit numbers to two more. Open
 * addressing with linear probing; the seed differs between runs, so that a file cannot be built to
 * collide, and never shows in a result. */
#ifndef LB_IO_TOKEN_MAP_H
#define LB_IO_TOKEN_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define LB_NO_ID UINT32_MAX

typedef struct lb_pair_entry {
    uint32_t left, right; /* the key; left == LB_NO_ID marks an empty slot */
    uint32_t rank, id; /* the value */
} lb_pair_entry;

typedef struct lb_pair_map {
    lb_pair_entry *slots;
    size_t mask; /* slots - 1 */
    size_t count;
    uint64_t seed;
} lb_pair_map;

/* Room for `expected` entries; the map grows when there are more. */
lb_status lb_pair_map_init(lb_pair_map *map, size_t expected, lb_error *err);
void lb_pair_map_free(lb_pair_map *map);
/* Sets (left, right), replacing what was there. left must not be LB_NO_ID. */
lb_status lb_pair_map_set(lb_pair_map *map, uint32_t left, uint32_t right, uint32_t rank, uint32_t id,
                          lb_error *err);

static inline uint64_t lb_mix64(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u; /* degski's mixer */
    x ^= x >> 32;
    return x;
}

/* NULL when there is no such pair. */
static inline const lb_pair_entry *lb_pair_map_find(const lb_pair_map *map, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    for (size_t i = (size_t)lb_mix64(key ^ map->seed) & map->mask;; i = (i + 1) & map->mask) {
        const lb_pair_entry *slot = &map->slots[i];
        if (slot->left == LB_NO_ID)
            return NULL;
        if (slot->left == left && slot->right == right)
            return slot;
    }
}

/* The strings themselves stay with the owner of the map, in one array indexed by id. */
typedef struct lb_token_text {
    const char *data;
    size_t length;
} lb_token_text;

typedef struct lb_string_map {
    uint32_t *slots; /* ids; LB_NO_ID is empty */
    size_t mask;
    uint64_t seed;
} lb_string_map;

/* A map for at most `count` strings: it never grows. */
lb_status lb_string_map_init(lb_string_map *map, size_t count, lb_error *err);
void lb_string_map_free(lb_string_map *map);
/* Adds texts[id]; false when that string is there already, under whatever id. */
bool lb_string_map_add(lb_string_map *map, const lb_token_text *texts, uint32_t id);
/* LB_NO_ID when the string is not there. */
uint32_t lb_string_map_find(const lb_string_map *map, const lb_token_text *texts, const char *text,
                            size_t length);

#endif
