/* SPDX-License-Identifier: MIT
 *
 * Ids to text. Each token becomes bytes by the steps of the tokenizer.json's "decoder"; the stream
 * keeps back the bytes of a character that is not complete yet. */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

enum { MAX_NESTING = 8, MAX_STRIP = 1 << 20 };

/* ---- reading the specification ---- */

typedef struct decoder_reader {
    lb_decoder *decoder;
    const char *where;
    bool fused; /* a Fuse came by: what follows works on the whole text */
} decoder_reader;

static lb_status copy_string(char **to, const char *text, const char *where, lb_error *err)
{
    *to = lb_strdup(text);
    return *to ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory for a decoder", where);
}

static lb_status new_step(decoder_reader *reader, lb_decoder_kind kind, lb_decoder_step **out, lb_error *err)
{
    lb_decoder *decoder = reader->decoder;
    if (reader->fused)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: a decoder that goes on after Fuse with anything but one Strip is "
                       "not supported",
                       reader->where);
    if (decoder->count == LB_DECODER_STEPS_MAX)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: more than %d decoders", reader->where,
                       LB_DECODER_STEPS_MAX);
    *out = &decoder->steps[decoder->count++];
    (*out)->kind = kind;
    return LB_OK;
}

static lb_status add_metaspace(decoder_reader *reader, const char *marker, bool drops_first, lb_error *err)
{
    lb_decoder_step *step = NULL;
    LB_TRY(new_step(reader, LB_DECODE_METASPACE, &step, err));
    step->drops_first = drops_first;
    LB_TRY(copy_string(&step->from, marker, reader->where, err));
    return copy_string(&step->to, " ", reader->where, err);
}

static lb_status read_metaspace(decoder_reader *reader, const json_t *spec, lb_error *err)
{
    const char *marker, *scheme;
    bool old_prefix;
    LB_TRY(lb_json_string(spec, "replacement", "\xE2\x96\x81", reader->where, &marker, err));
    LB_TRY(lb_json_bool(spec, "add_prefix_space", true, reader->where, &old_prefix, err));
    LB_TRY(
        lb_json_string(spec, "prepend_scheme", old_prefix ? "always" : "never", reader->where, &scheme, err));
    if (!*marker)
        return lb_fail(err, LB_EFORMAT, "%s: a Metaspace decoder with an empty replacement", reader->where);
    return add_metaspace(reader, marker, strcmp(scheme, "never") != 0, err);
}

static lb_status read_replace(decoder_reader *reader, const json_t *spec, lb_error *err)
{
    const char *from = json_string_value(json_object_get(json_object_get(spec, "pattern"), "String"));
    const char *to = json_string_value(json_object_get(spec, "content"));
    if (!from || !*from || !to)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: a Replace decoder must have a String pattern and a content",
                       reader->where);
    lb_decoder_step *step = NULL;
    LB_TRY(new_step(reader, LB_DECODE_REPLACE, &step, err));
    LB_TRY(copy_string(&step->from, from, reader->where, err));
    return copy_string(&step->to, to, reader->where, err);
}

static lb_status read_strip(decoder_reader *reader, const json_t *spec, lb_error *err)
{
    const char *content;
    size_t start, stop;
    LB_TRY(lb_json_string(spec, "content", " ", reader->where, &content, err));
    LB_TRY(lb_json_size(spec, "start", 0, MAX_STRIP, 0, reader->where, &start, err));
    LB_TRY(lb_json_size(spec, "stop", 0, MAX_STRIP, 0, reader->where, &stop, err));
    if (!*content || strlen(content) != lb_utf8_length(content))
        return lb_fail(err, LB_EFORMAT, "%s: a Strip decoder's content is not one character", reader->where);
    if (reader->fused) {
        if (stop > 0 || reader->decoder->strip)
            return lb_fail(err, LB_EUNSUPPORTED,
                           "%s: a decoder that strips the end of a text is not supported", reader->where);
        reader->decoder->strip_start = start;
        return copy_string(&reader->decoder->strip, content, reader->where, err);
    }
    lb_decoder_step *step = NULL;
    LB_TRY(new_step(reader, LB_DECODE_STRIP, &step, err));
    step->start = start;
    step->stop = stop;
    return copy_string(&step->from, content, reader->where, err);
}

static lb_status read_one(decoder_reader *reader, const json_t *spec, unsigned depth, lb_error *err)
{
    const char *type;
    lb_decoder_step *step;
    LB_TRY(lb_json_string(spec, "type", "", reader->where, &type, err));
    if (strcmp(type, "ByteLevel") == 0)
        return new_step(reader, LB_DECODE_BYTE_LEVEL, &step, err);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reader, spec, err);
    if (strcmp(type, "Replace") == 0)
        return read_replace(reader, spec, err);
    if (strcmp(type, "Strip") == 0)
        return read_strip(reader, spec, err);
    if (strcmp(type, "ByteFallback") == 0) {
        reader->decoder->has_byte_fallback = true;
        return new_step(reader, LB_DECODE_BYTE_FALLBACK, &step, err);
    }
    if (strcmp(type, "Fuse") == 0) {
        reader->fused = true;
        return LB_OK;
    }
    if (strcmp(type, "Sequence") != 0 || depth > MAX_NESTING)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: the decoder \"%s\" is not supported; known are ByteLevel, "
                       "Metaspace, ByteFallback, Replace, Strip, Fuse and Sequence",
                       reader->where, type);
    const json_t *list = json_object_get(spec, "decoders");
    for (size_t i = 0; i < json_array_size(list); i++)
        LB_TRY(read_one(reader, json_array_get(list, i), depth + 1, err));
    return LB_OK;
}

lb_status lb_decoder_read(const json_t *spec, const lb_pretokenizer *pretokenizer, const char *where,
                          lb_decoder *out, lb_error *err)
{
    decoder_reader reader = {out, where, false};
    lb_decoder_step *step;
    bool prepends = false;
    if (spec && !json_is_null(spec))
        return read_one(&reader, spec, 0, err);
    if (lb_pretokenizer_is_byte_level(pretokenizer))
        return new_step(&reader, LB_DECODE_BYTE_LEVEL, &step, err);
    const char *marker = lb_pretokenizer_metaspace(pretokenizer, &prepends);
    if (marker)
        return add_metaspace(&reader, marker, prepends, err);
    return lb_fail(err, LB_EUNSUPPORTED,
                   "%s: it has no \"decoder\", and its pre-tokenizer does not imply one", where);
}

void lb_decoder_free(lb_decoder *decoder)
{
    for (size_t i = 0; i < decoder->count; i++) {
        lb_free(decoder->steps[i].from);
        lb_free(decoder->steps[i].to);
    }
    lb_free(decoder->strip);
    *decoder = (lb_decoder){0};
}

/* ---- one token ---- */

static void bytes_of_alphabet(const lb_text *in, lb_text *out)
{
    size_t used;
    uint32_t code = 0;
    for (size_t at = 0; at < in->length; at += used) {
        bool good = lb_utf8_next(in->data + at, in->length - at, &code, &used) == LB_UTF8_VALID;
        int byte = good ? lb_byte_from_alphabet(code) : -1;
        if (byte < 0) { /* not of the alphabet, an added token: it stands for itself */
            out->length = 0;
            lb_text_add(out, in->data, in->length);
            return;
        }
        char c = (char)byte;
        lb_text_add(out, &c, 1);
    }
}

static void replace_all(const lb_text *in, const char *from, const char *to, lb_text *out)
{
    size_t length = strlen(from);
    for (size_t at = 0; at < in->length;) {
        if (in->length - at >= length && memcmp(in->data + at, from, length) == 0) {
            lb_text_add_string(out, to);
            at += length;
        } else
            lb_text_add(out, in->data + at++, 1);
    }
}

static void byte_of_name(const lb_text *in, lb_text *out)
{
    static const char digits[] = "0123456789ABCDEF0123456789abcdef";
    const char *high = NULL, *low = NULL;
    if (in->length == 6 && memcmp(in->data, "<0x", 3) == 0 && in->data[5] == '>') {
        high = memchr(digits, in->data[3], sizeof digits - 1);
        low = memchr(digits, in->data[4], sizeof digits - 1);
    }
    if (high && low) {
        char byte = (char)((high - digits) % 16 * 16 + (low - digits) % 16);
        lb_text_add(out, &byte, 1);
    } else
        lb_text_add(out, in->data, in->length);
}

static void strip_token(const lb_decoder_step *step, const lb_text *in, lb_text *out)
{
    size_t length = strlen(step->from), begin = 0, end = in->length;
    for (size_t i = 0; i < step->start && end - begin >= length; i++, begin += length)
        if (memcmp(in->data + begin, step->from, length) != 0)
            break;
    for (size_t i = 0; i < step->stop && end - begin >= length; i++, end -= length)
        if (memcmp(in->data + end - length, step->from, length) != 0)
            break;
    lb_text_add(out, in->data + begin, end - begin);
}

/* The token's bytes into *piece, with *spare as the other buffer. */
static void decode_token(const lb_decoder *decoder, lb_token_text token, bool is_first, lb_text *piece,
                         lb_text *spare)
{
    piece->length = 0;
    lb_text_add(piece, token.data, token.length);
    for (size_t i = 0; i < decoder->count && !piece->failed && !spare->failed; i++) {
        const lb_decoder_step *step = &decoder->steps[i];
        spare->length = 0;
        lb_text_add(spare, "", 0);
        if (step->kind == LB_DECODE_BYTE_LEVEL)
            bytes_of_alphabet(piece, spare);
        else if (step->kind == LB_DECODE_BYTE_FALLBACK)
            byte_of_name(piece, spare);
        else if (step->kind == LB_DECODE_STRIP)
            strip_token(step, piece, spare);
        else
            replace_all(piece, step->from, is_first && step->drops_first ? "" : step->to, spare);
        lb_text swap = *piece;
        *piece = *spare;
        *spare = swap;
    }
}

/* ---- the stream ---- */

struct lb_detokenizer {
    const lb_tokenizer *tokenizer;
    lb_text piece, spare, out;
    char pending[4]; /* the beginning of a character */
    size_t pending_length;
    size_t strip_left;
    bool started;
};

lb_status lb_detokenizer_create(const lb_tokenizer *tokenizer, lb_detokenizer **out, lb_error *err)
{
    lb_detokenizer *stream = lb_alloc_zero(1, sizeof *stream);
    if (!stream)
        return lb_fail(err, LB_ENOMEM, "no memory for a detokenizer");
    stream->tokenizer = tokenizer;
    stream->strip_left = tokenizer->decoder.strip_start;
    *out = stream;
    return LB_OK;
}

void lb_detokenizer_destroy(lb_detokenizer *stream)
{
    if (!stream)
        return;
    lb_text_free(&stream->piece);
    lb_text_free(&stream->spare);
    lb_text_free(&stream->out);
    lb_free(stream);
}

static void emit(lb_detokenizer *stream, const char *character, size_t length)
{
    const char *strip = stream->tokenizer->decoder.strip;
    if (stream->strip_left > 0 && strlen(strip) == length && memcmp(strip, character, length) == 0) {
        stream->strip_left--;
        return;
    }
    stream->strip_left = 0;
    lb_text_add(&stream->out, character, length);
}

/* One U+FFFD for a mistake; with ByteFallback one for each byte of it, as in Hugging Face's library (which
 * also takes back the good characters of the same run of byte tokens: a stream has written them). */
static void emit_replacement(lb_detokenizer *stream, size_t bytes)
{
    for (size_t i = 0; i < (stream->tokenizer->decoder.has_byte_fallback ? bytes : 1); i++)
        emit(stream, LB_UTF8_REPLACEMENT, 3);
}

static lb_status give(lb_detokenizer *stream, const char **text, size_t *length, lb_error *err)
{
    lb_text_add(&stream->out, "", 0);
    if (stream->out.failed || stream->piece.failed || stream->spare.failed)
        return lb_fail(err, LB_ENOMEM, "no memory for a token's text");
    *text = stream->out.data;
    *length = stream->out.length;
    return LB_OK;
}

lb_status lb_detokenizer_put(lb_detokenizer *stream, uint32_t id, const char **text, size_t *length,
                             lb_error *err)
{
    const lb_tokenizer *tokenizer = stream->tokenizer;
    lb_token_text token = lb_tokenizer_text(tokenizer, id);
    stream->out.length = 0;
    if (!token.data || (tokenizer->added_by_id[id] && tokenizer->added_by_id[id]->special))
        return give(stream, text, length, err);
    decode_token(&tokenizer->decoder, token, !stream->started, &stream->piece, &stream->spare);
    stream->started = true;
    lb_text *bytes = &stream->spare; /* pending + piece */
    bytes->length = 0;
    lb_text_add(bytes, stream->pending, stream->pending_length);
    lb_text_add(bytes, stream->piece.data, stream->piece.length);
    stream->pending_length = 0;
    if (bytes->failed)
        return give(stream, text, length, err);
    size_t used;
    for (size_t at = 0; at < bytes->length; at += used) {
        uint32_t code;
        lb_utf8_kind kind = lb_utf8_next(bytes->data + at, bytes->length - at, &code, &used);
        if (kind == LB_UTF8_VALID)
            emit(stream, bytes->data + at, used);
        else if (kind == LB_UTF8_INVALID)
            emit_replacement(stream, used);
        else {
            stream->pending_length = used;
            memcpy(stream->pending, bytes->data + at, used);
        }
    }
    return give(stream, text, length, err);
}

lb_status lb_detokenizer_finish(lb_detokenizer *stream, const char **text, size_t *length, lb_error *err)
{
    stream->out.length = 0;
    if (stream->pending_length > 0)
        emit_replacement(stream, stream->pending_length);
    stream->pending_length = 0;
    return give(stream, text, length, err);
}

lb_status lb_detokenizer_token(lb_detokenizer *stream, uint32_t id, const char **bytes, size_t *length,
                               lb_error *err)
{
    const lb_tokenizer *tokenizer = stream->tokenizer;
    const lb_token_text token = lb_tokenizer_text(tokenizer, id);
    stream->out.length = 0;
    if (token.data && tokenizer->added_by_id[id]) {
        lb_text_add(&stream->out, token.data, token.length);
    } else if (token.data) {
        decode_token(&tokenizer->decoder, token, false, &stream->piece, &stream->spare);
        lb_text_add(&stream->out, stream->piece.data, stream->piece.length);
    }
    return give(stream, bytes, length, err);
}
