/* SPDX-License-Identifier: MIT
 *
 * A conversation to ids: the markers of the checkpoint's chat family as ids, and everything between
 * two markers as one plain text, so that nothing in a turn can spell a marker. */
#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

typedef struct chat_writer {
    const lb_tokenizer *tokenizer;
    lb_encoder encoder;
    lb_text text; /* of the stretch between two markers */
    uint32_t start, middle, end; /* middle: LB_NO_ID in ChatML */
    const char *after_role; /* what separates a role from its text */
} chat_writer;

static lb_status find_markers(chat_writer *writer, lb_error *err)
{
    const lb_tokenizer *tokenizer = writer->tokenizer;
    const char *names[3] = {"<|im_start|>", NULL, "<|im_end|>"};
    uint32_t ids[3] = {LB_NO_ID, LB_NO_ID, LB_NO_ID};
    if (tokenizer->chat.family == LB_CHAT_NONE)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: the model has no chat template", tokenizer->where);
    if (tokenizer->chat.family == LB_CHAT_UNKNOWN)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: the model's chat template is of a kind that lowbit does not know; "
                       "known are ChatML and Llama 3",
                       tokenizer->where);
    if (tokenizer->chat.family == LB_CHAT_LLAMA3) {
        names[0] = "<|start_header_id|>";
        names[1] = "<|end_header_id|>";
        names[2] = "<|eot_id|>";
    }
    for (int i = 0; i < 3; i++) {
        if (!names[i])
            continue;
        const lb_added_token *token = lb_added_token_by_name(&tokenizer->added, names[i], strlen(names[i]));
        if (!token)
            return lb_fail(err, LB_EFORMAT,
                           "%s: the chat template needs the token \"%s\", which is not among the "
                           "added tokens",
                           tokenizer->where, names[i]);
        ids[i] = token->id;
    }
    writer->start = ids[0];
    writer->middle = ids[1];
    writer->end = ids[2];
    writer->after_role = names[1] ? "\n\n" : "\n";
    return LB_OK;
}

/* Encodes what was gathered in writer->text, then one marker (none for LB_NO_ID). */
static lb_status flush(chat_writer *writer, uint32_t marker, lb_error *err)
{
    lb_encoder *encoder = &writer->encoder;
    if (writer->text.failed)
        return lb_fail(err, LB_ENOMEM, "no memory for a conversation");
    bool at_start = encoder->ids.count == 0;
    LB_TRY(lb_encoder_text(encoder, writer->text.data ? writer->text.data : "", writer->text.length, true,
                           at_start, err));
    writer->text.length = 0;
    return marker == LB_NO_ID ? LB_OK : lb_id_list_add(&encoder->ids, marker, err);
}

static bool is_trimmed(uint32_t code)
{
    return lb_is_space(code) || (code >= 0x1C && code <= 0x1F); /* as Python's str.strip has it */
}

static void trim(const char **text, size_t *length)
{
    size_t used;
    uint32_t code = 0;
    while (*length > 0 && lb_utf8_next(*text, *length, &code, &used) == LB_UTF8_VALID && is_trimmed(code)) {
        *text += used;
        *length -= used;
    }
    while (*length > 0) {
        size_t last = *length - 1;
        while (last > 0 && ((unsigned char)(*text)[last] & 0xC0) == 0x80)
            last--;
        if (lb_utf8_next(*text + last, *length - last, &code, &used) != LB_UTF8_VALID || !is_trimmed(code))
            return;
        *length = last;
    }
}

static lb_status write_header(chat_writer *writer, const char *role, const char *separator, lb_error *err)
{
    LB_TRY(flush(writer, writer->start, err));
    lb_text_add_string(&writer->text, role);
    if (writer->middle != LB_NO_ID)
        LB_TRY(flush(writer, writer->middle, err));
    lb_text_add_string(&writer->text, separator);
    return LB_OK;
}

static lb_status write_turn(chat_writer *writer, const char *role, const char *content, bool is_first,
                            lb_error *err)
{
    const lb_chat_format *format = &writer->tokenizer->chat;
    size_t length = strlen(content);
    LB_TRY(write_header(writer, role, writer->after_role, err));
    if (is_first && format->system_preface && strcmp(role, "system") == 0)
        lb_text_add_string(&writer->text, format->system_preface);
    if (format->trims)
        trim(&content, &length);
    lb_text_add(&writer->text, content, length);
    LB_TRY(flush(writer, writer->end, err));
    if (format->family == LB_CHAT_CHATML)
        lb_text_add_string(&writer->text, "\n");
    return LB_OK;
}

static lb_status check_turns(const lb_chat_turn *turns, size_t count, size_t *bytes, lb_error *err)
{
    *bytes = 0;
    if (count == 0)
        return lb_fail(err, LB_EINVAL, "a conversation without a turn");
    for (size_t i = 0; i < count; i++) {
        const char *role = turns[i].role ? turns[i].role : "";
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
            return lb_fail(err, LB_EINVAL,
                           "turn %zu has the role \"%.40s\", wanted system, user or assistant", i, role);
        if (!turns[i].content)
            return lb_fail(err, LB_EINVAL, "turn %zu has no content", i);
        *bytes += strlen(turns[i].content);
    }
    return LB_OK;
}

static lb_status write_conversation(chat_writer *writer, const lb_chat_turn *turns, size_t count,
                                    lb_error *err)
{
    const lb_tokenizer *tokenizer = writer->tokenizer;
    const lb_chat_format *format = &tokenizer->chat;
    if (format->begins_with_bos && tokenizer->bos != LB_NO_ID)
        LB_TRY(lb_id_list_add(&writer->encoder.ids, tokenizer->bos, err));
    bool has_system = strcmp(turns[0].role, "system") == 0;
    if (format->default_system && !has_system)
        LB_TRY(write_turn(writer, "system", format->default_system, true, err));
    for (size_t i = 0; i < count; i++)
        LB_TRY(write_turn(writer, turns[i].role, turns[i].content, i == 0, err));
    LB_TRY(write_header(writer, "assistant", format->answer_opening, err));
    return flush(writer, LB_NO_ID, err);
}

lb_status lb_tokenizer_chat(const lb_tokenizer *tokenizer, const lb_chat_turn *turns, size_t count,
                            uint32_t **ids, size_t *id_count, lb_error *err)
{
    chat_writer writer = {.tokenizer = tokenizer};
    size_t bytes;
    lb_status st;
    LB_GO(check_turns(turns, count, &bytes, err));
    LB_GO(find_markers(&writer, err));
    LB_GO(lb_encoder_init(tokenizer, bytes, &writer.encoder, err));
    LB_GO(write_conversation(&writer, turns, count, err));
    *ids = writer.encoder.ids.ids;
    *id_count = writer.encoder.ids.count;
    writer.encoder.ids.ids = NULL;
done:
    lb_encoder_free(&writer.encoder);
    lb_text_free(&writer.text);
    return st;
}
