/* SPDX-License-Identifier: MIT
 *
 * Making a tokenizer from its two JSON files: the parts, the special ids, and whether text gets a BOS. */
#include "io/tokenizer.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/tokenizer_parts.h"

enum { MAX_NESTING = 8 };

/* Tokens that end a text or a turn in the checkpoints that lowbit knows, where they are special. */
static const char *const END_TOKENS[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                                         "<|endoftext|>"};

/* What the post-processor puts around a text. */
typedef struct template_info {
    size_t before; /* special tokens before it */
    uint32_t first;
} template_info;

static lb_status read_template(const json_t *spec, const lb_tokenizer *tokenizer, const char *where,
                               template_info *info, lb_error *err)
{
    const json_t *single = json_object_get(spec, "single");
    if (!json_is_array(single))
        return lb_fail(err, LB_EFORMAT, "%s: a TemplateProcessing without a list \"single\"", where);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence"))
            return LB_OK;
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (!name)
            return lb_fail(err, LB_EFORMAT,
                           "%s: item %zu of the TemplateProcessing is neither a Sequence nor a "
                           "SpecialToken",
                           where, i);
        const json_t *listed = json_object_get(json_object_get(spec, "special_tokens"), name);
        const json_t *ids = json_object_get(listed, "ids");
        const json_t *id = json_array_get(ids, 0);
        if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
            (json_int_t)tokenizer->vocab_size <= json_integer_value(id))
            return lb_fail(err, LB_EFORMAT,
                           "%s: the TemplateProcessing's \"%.60s\" is not one id of the "
                           "vocabulary",
                           where, name);
        if (info->before++ == 0)
            info->first = (uint32_t)json_integer_value(id);
    }
    return lb_fail(err, LB_EFORMAT, "%s: a TemplateProcessing without the text itself", where);
}

static lb_status read_post_processor(const json_t *spec, const lb_tokenizer *tokenizer, unsigned depth,
                                     const char *where, template_info *info, lb_error *err)
{
    if (!spec || json_is_null(spec))
        return LB_OK;
    const char *type;
    LB_TRY(lb_json_string(spec, "type", "", where, &type, err));
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets only */
        return LB_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(spec, tokenizer, where, info, err);
    if (strcmp(type, "Sequence") != 0 || depth > MAX_NESTING)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: the post-processor \"%s\" is not supported; known are "
                       "TemplateProcessing, ByteLevel and Sequence",
                       where, type);
    const json_t *list = json_object_get(spec, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        LB_TRY(read_post_processor(json_array_get(list, i), tokenizer, depth + 1, where, info, err));
    return LB_OK;
}

/* config[key]: a text, or an object with its text under "content"; LB_NO_ID when it names none. */
static lb_status special_id(const lb_tokenizer *tokenizer, const json_t *config, const char *key,
                            const char *where, uint32_t *out, lb_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    *out = LB_NO_ID;
    if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
        return LB_OK;
    if (!json_is_string(value))
        return lb_fail(err, LB_EFORMAT, "%s: \"%s\" is not a token's text", where, key);
    *out = lb_tokenizer_id(tokenizer, json_string_value(value));
    if (*out == LB_NO_ID)
        return lb_fail(err, LB_EFORMAT, "%s: %s is \"%.60s\", which is not in the vocabulary", where, key,
                       json_string_value(value));
    return LB_OK;
}

static lb_status read_special(lb_tokenizer *tokenizer, const json_t *spec, const json_t *config,
                              const char *where, lb_error *err)
{
    template_info info = {0};
    LB_TRY(read_post_processor(json_object_get(spec, "post_processor"), tokenizer, 0, where, &info, err));
    if (info.before > 1)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: its post-processor puts %zu tokens before a text, only one is "
                       "supported",
                       where, info.before);
    LB_TRY(special_id(tokenizer, config, "bos_token", where, &tokenizer->bos, err));
    LB_TRY(special_id(tokenizer, config, "eos_token", where, &tokenizer->eos, err));
    if (info.before == 1)
        tokenizer->bos = info.first;
    LB_TRY(lb_json_bool(config, "add_bos_token", info.before == 1, where, &tokenizer->adds_bos, err));
    if (tokenizer->adds_bos && tokenizer->bos == LB_NO_ID)
        return lb_fail(err, LB_EFORMAT, "%s: add_bos_token is set, but there is no bos_token", where);
    return LB_OK;
}

/* Tokens that steer a model must not come out of a merge of ordinary text. */
static lb_status forbid_special(lb_tokenizer *tokenizer, lb_error *err)
{
    uint32_t *ids;
    size_t count = 0;
    LB_TRY(lb_alloc_array(&ids, tokenizer->added.count, sizeof *ids, "tokenizer", err));
    for (size_t i = 0; i < tokenizer->added.count; i++)
        if (tokenizer->added.tokens[i].special)
            ids[count++] = tokenizer->added.tokens[i].id;
    lb_status st = lb_bpe_forbid(tokenizer->bpe, ids, count, err);
    lb_free(ids);
    return st;
}

static lb_status index_added(lb_tokenizer *tokenizer, lb_error *err)
{
    size_t size = tokenizer->bpe->vocab_size;
    if (tokenizer->added.id_end > size)
        size = tokenizer->added.id_end;
    tokenizer->vocab_size = size;
    tokenizer->added_by_id = lb_alloc_zero(size, sizeof *tokenizer->added_by_id);
    if (!tokenizer->added_by_id)
        return lb_fail(err, LB_ENOMEM, "no memory for %zu tokens", size);
    for (size_t i = 0; i < tokenizer->added.count; i++)
        tokenizer->added_by_id[tokenizer->added.tokens[i].id] = &tokenizer->added.tokens[i];
    return LB_OK;
}

/* A checkpoint may list its chat markers as ordinary added tokens; they are control tokens all the
 * same, and text must not be able to spell them. */
static void mark_control_tokens(lb_added_tokens *added)
{
    static const char *const control[] = {"<|im_start|>", "<|im_end|>", "<|start_header_id|>",
                                          "<|end_header_id|>", "<|eot_id|>"};
    for (size_t i = 0; i < added->count; i++)
        for (size_t k = 0; k < sizeof control / sizeof *control; k++)
            if (strcmp(added->tokens[i].content, control[k]) == 0)
                added->tokens[i].special = true;
}

static lb_status read_parts(lb_tokenizer *tokenizer, const json_t *spec, const json_t *config,
                            const char *where, lb_error *err)
{
    if (config && !json_is_object(config))
        return lb_fail(err, LB_EFORMAT, "%s: the tokenizer's configuration is not an object", where);
    tokenizer->where = lb_strdup(where);
    if (!tokenizer->where)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a tokenizer", where);
    LB_TRY(lb_bpe_create(json_object_get(spec, "model"), where, &tokenizer->bpe, err));
    LB_TRY(lb_normalizer_create(json_object_get(spec, "normalizer"), where, &tokenizer->normalizer, err));
    LB_TRY(
        lb_pretokenizer_create(json_object_get(spec, "pre_tokenizer"), where, &tokenizer->pretokenizer, err));
    LB_TRY(lb_added_tokens_read(json_object_get(spec, "added_tokens"), tokenizer->bpe, tokenizer->normalizer,
                                where, &tokenizer->added, err));
    mark_control_tokens(&tokenizer->added);
    LB_TRY(index_added(tokenizer, err));
    LB_TRY(forbid_special(tokenizer, err));
    LB_TRY(lb_decoder_read(json_object_get(spec, "decoder"), tokenizer->pretokenizer, where,
                           &tokenizer->decoder, err));
    LB_TRY(read_special(tokenizer, spec, config, where, err));
    return lb_chat_format_read(config, where, &tokenizer->chat, err);
}

lb_status lb_tokenizer_create(const json_t *spec, const json_t *config, const char *where, lb_tokenizer **out,
                              lb_error *err)
{
    if (!json_is_object(spec))
        return lb_fail(err, LB_EFORMAT, "%s: the tokenizer is not a JSON object", where);
    lb_tokenizer *tokenizer = lb_alloc_zero(1, sizeof *tokenizer);
    if (!tokenizer)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a tokenizer", where);
    lb_status st = read_parts(tokenizer, spec, config, where, err);
    if (st == LB_OK)
        *out = tokenizer;
    else
        lb_tokenizer_destroy(tokenizer);
    return st;
}

void lb_tokenizer_destroy(lb_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    lb_bpe_destroy(tokenizer->bpe);
    lb_normalizer_destroy(tokenizer->normalizer);
    lb_pretokenizer_destroy(tokenizer->pretokenizer);
    lb_added_tokens_free(&tokenizer->added);
    lb_decoder_free(&tokenizer->decoder);
    lb_chat_format_free(&tokenizer->chat);
    lb_free(tokenizer->added_by_id);
    lb_free(tokenizer->where);
    lb_free(tokenizer);
}

size_t lb_tokenizer_vocab_size(const lb_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

uint32_t lb_tokenizer_bos(const lb_tokenizer *tokenizer)
{
    return tokenizer->bos;
}

uint32_t lb_tokenizer_eos(const lb_tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool lb_tokenizer_adds_bos(const lb_tokenizer *tokenizer)
{
    return tokenizer->adds_bos;
}

lb_token_text lb_tokenizer_text(const lb_tokenizer *tokenizer, uint32_t id)
{
    if (id < tokenizer->vocab_size && tokenizer->added_by_id[id])
        return (lb_token_text){tokenizer->added_by_id[id]->content, tokenizer->added_by_id[id]->length};
    if (id < tokenizer->bpe->vocab_size)
        return tokenizer->bpe->texts[id];
    return (lb_token_text){NULL, 0};
}

uint32_t lb_tokenizer_id(const lb_tokenizer *tokenizer, const char *text)
{
    const lb_added_token *token = lb_added_token_by_name(&tokenizer->added, text, strlen(text));
    return token ? token->id : lb_bpe_id(tokenizer->bpe, text, strlen(text));
}

bool lb_tokenizer_is_end(const lb_tokenizer *tokenizer, uint32_t id)
{
    if (id == LB_NO_ID || id >= tokenizer->vocab_size)
        return false;
    if (id == tokenizer->eos)
        return true;
    const lb_added_token *token = tokenizer->added_by_id[id];
    for (size_t i = 0; token && token->special && i < sizeof END_TOKENS / sizeof *END_TOKENS; i++)
        if (strcmp(token->content, END_TOKENS[i]) == 0)
            return true;
    return false;
}

lb_status lb_tokenizer_check_rows(const lb_tokenizer *tokenizer, size_t rows, const char *where,
                                  lb_error *err)
{
    if (tokenizer->vocab_size <= rows)
        return LB_OK;
    return lb_fail(err, LB_EFORMAT,
                   "%s: its tokenizer has ids up to %zu, but the embedding only %zu rows: they do not belong "
                   "together",
                   where, tokenizer->vocab_size - 1, rows);
}
