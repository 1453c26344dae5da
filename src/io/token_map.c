/* SPDX-License-Identifier: MIT */
#include "io/token_map.h"

#include <string.h>

#include "base/alloc.h"

/* The smallest power of two that leaves a third of the slots free. */
static size_t slots_for(size_t count)
{
    size_t slots = 16;
    while (slots / 3 * 2 < count)
        slots *= 2;
    return slots;
}

/* Differs between runs where the system randomises addresses; that is all it is for. */
static uint64_t make_seed(const void *address)
{
    return lb_mix64((uint64_t)(uintptr_t)address ^ 0x9E3779B97F4A7C15u);
}

lb_status lb_pair_map_init(lb_pair_map *map, size_t expected, lb_error *err)
{
    size_t slots = slots_for(expected);
    LB_TRY(lb_alloc_array(&map->slots, slots, sizeof *map->slots, "tokenizer", err));
    memset(map->slots, 0xFF, slots * sizeof *map->slots);
    map->mask = slots - 1;
    map->count = 0;
    map->seed = make_seed(map->slots);
    return LB_OK;
}

void lb_pair_map_free(lb_pair_map *map)
{
    lb_free(map->slots);
    *map = (lb_pair_map){0};
}

static void place(lb_pair_map *map, lb_pair_entry entry)
{
    uint64_t key = (uint64_t)entry.left << 32 | entry.right;
    size_t i = (size_t)lb_mix64(key ^ map->seed) & map->mask;
    while (map->slots[i].left != LB_NO_ID)
        i = (i + 1) & map->mask;
    map->slots[i] = entry;
}

static lb_status grow(lb_pair_map *map, lb_error *err)
{
    lb_pair_map bigger;
    LB_TRY(lb_pair_map_init(&bigger, map->count * 2, err));
    for (size_t i = 0; i <= map->mask; i++)
        if (map->slots[i].left != LB_NO_ID)
            place(&bigger, map->slots[i]);
    bigger.count = map->count;
    lb_pair_map_free(map);
    *map = bigger;
    return LB_OK;
}

lb_status lb_pair_map_set(lb_pair_map *map, uint32_t left, uint32_t right, uint32_t rank, uint32_t id,
                          lb_error *err)
{
    const lb_pair_entry *found = lb_pair_map_find(map, left, right);
    if (found) {
        lb_pair_entry *slot = &map->slots[found - map->slots];
        slot->rank = rank;
        slot->id = id;
        return LB_OK;
    }
    if (map->count + 1 > (map->mask + 1) / 3 * 2)
        LB_TRY(grow(map, err));
    place(map, (lb_pair_entry){left, right, rank, id});
    map->count++;
    return LB_OK;
}

lb_status lb_string_map_init(lb_string_map *map, size_t count, lb_error *err)
{
    size_t slots = slots_for(count);
    LB_TRY(lb_alloc_array(&map->slots, slots, sizeof *map->slots, "tokenizer", err));
    memset(map->slots, 0xFF, slots * sizeof *map->slots);
    map->mask = slots - 1;
    map->seed = make_seed(map->slots);
    return LB_OK;
}

void lb_string_map_free(lb_string_map *map)
{
    lb_free(map->slots);
    *map = (lb_string_map){0};
}

static uint64_t hash_text(uint64_t seed, const char *text, size_t length)
{
    uint64_t hash = seed ^ length;
    while (length > 0) {
        uint64_t word = 0;
        size_t take = length < 8 ? length : 8;
        memcpy(&word, text, take);
        hash = lb_mix64(hash ^ word) * 0x9E3779B97F4A7C15u;
        text += take;
        length -= take;
    }
    return lb_mix64(hash);
}

bool lb_string_map_add(lb_string_map *map, const lb_token_text *texts, uint32_t id)
{
    lb_token_text text = texts[id];
    size_t i = (size_t)hash_text(map->seed, text.data, text.length) & map->mask;
    for (; map->slots[i] != LB_NO_ID; i = (i + 1) & map->mask) {
        lb_token_text other = texts[map->slots[i]];
        if (other.length == text.length && memcmp(other.data, text.data, text.length) == 0)
            return false;
    }
    map->slots[i] = id;
    return true;
}

uint32_t lb_string_map_find(const lb_string_map *map, const lb_token_text *texts, const char *text,
                            size_t length)
{
    size_t i = (size_t)hash_text(map->seed, text, length) & map->mask;
    for (; map->slots[i] != LB_NO_ID; i = (i + 1) & map->mask) {
        lb_token_text other = texts[map->slots[i]];
        if (other.length == length && memcmp(other.data, text, length) == 0)
            return map->slots[i];
    }
    return LB_NO_ID;
}
