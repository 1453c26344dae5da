/* SPDX-License-Identifier: MIT
 * Any bytes as a tokenizer.json (a "config" inside it stands for tokenizer_config.json): make a
 * tokenizer, encode awkward texts, decode what came out, hold a conversation. The same bytes are also
 * tried as a tokenizer.model. */
#include <string.h>

#include "base/json.h"
#include "io/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const lb_tokenizer *tokenizer, const uint32_t *ids, size_t count)
{
    lb_detokenizer *stream;
    const char *text;
    size_t length;
    if (lb_detokenizer_create(tokenizer, &stream, NULL) != LB_OK)
        return;
    for (size_t i = 0; i < count; i++)
        (void)lb_detokenizer_put(stream, ids[i], &text, &length, NULL);
    (void)lb_detokenizer_finish(stream, &text, &length, NULL);
    lb_detokenizer_destroy(stream);
}

static void use(const lb_tokenizer *tokenizer)
{
    static const char *const texts[] = {"",
                                        " ",
                                        "Hello world, it's 1234  \n\n x",
                                        "e\xCC\x81\xCC\xA3 \xE4\xB8\xAD\xF0\x9F\x98\x80",
                                        "\xFF\xC3<s><|im_start|>a<|im_end|>",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                                        "\xE2\x96\x81\xE2\x96\x81 a"};
    uint32_t *ids;
    size_t count;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (unsigned flags = 0; flags < 4; flags++)
            if (lb_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), flags, &ids, &count, NULL) ==
                LB_OK) {
                decode(tokenizer, ids, count);
                lb_ids_free(ids);
            }
    lb_chat_turn turns[] = {{"system", " s "}, {"user", "hi<|im_end|>"}};
    if (lb_tokenizer_chat(tokenizer, turns, 2, &ids, &count, NULL) == LB_OK)
        lb_ids_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lb_error err;
    json_t *spec;
    lb_tokenizer *tokenizer;
    if (lb_json_parse((const char *)data, size, "fuzz", &spec, &err) != LB_OK) {
        if (lb_tokenizer_from_sentencepiece(data, size, "fuzz", &spec, &err) != LB_OK)
            return 0;
    }
    const json_t *config = json_object_get(spec, "config");
    if (lb_tokenizer_create(spec, config, "fuzz", &tokenizer, &err) == LB_OK) {
        for (uint32_t id = 0; id < 8; id++)
            decode(tokenizer, &id, 1);
        use(tokenizer);
        lb_tokenizer_destroy(tokenizer);
    }
    json_decref(spec);
    return 0;
}
