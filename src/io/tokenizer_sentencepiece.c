/* SPDX-License-Identifier: MIT
 *
 * SentencePiece's tokenizer.model: a protocol buffer (wire types varint, 64-bit, bytes, 32-bit) of the
 * message ModelProto in sentencepiece_model.proto. Only the fields that decide what a text becomes are
 * read; all others are skipped. */
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer.h"
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_pieces.h"

/* Field numbers of the messages. */
enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_MODEL_TYPE = 3, TRAINER_SPACE_AS_SUFFIX = 24, TRAINER_UNK_ID = 40, TRAINER_BOS_ID = 41 };
enum { NORMALIZER_CHARSMAP = 2, NORMALIZER_PREFIX = 3, NORMALIZER_SQUEEZE = 4, NORMALIZER_ESCAPE = 5 };
enum { MODEL_TYPE_UNIGRAM = 1, MODEL_TYPE_BPE = 2 };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct field {
    uint64_t number;
    unsigned wire;
    uint64_t value; /* of a varint or a fixed number */
    const uint8_t *data;
    size_t length; /* of bytes */
} field;

typedef struct cursor {
    const uint8_t *at, *end;
} cursor;

static bool read_varint(cursor *in, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool read_fixed(cursor *in, size_t bytes, uint64_t *out)
{
    if ((size_t)(in->end - in->at) < bytes)
        return false;
    *out = 0;
    for (size_t i = 0; i < bytes; i++)
        *out |= (uint64_t)*in->at++ << (8 * i);
    return true;
}

/* The next field of a message; false when it is malformed. Call only while in->at < in->end. */
static bool read_field(cursor *in, field *out)
{
    uint64_t key;
    *out = (field){0};
    if (!read_varint(in, &key))
        return false;
    out->number = key >> 3;
    out->wire = (unsigned)(key & 7);
    if (out->wire == WIRE_VARINT)
        return read_varint(in, &out->value);
    if (out->wire == WIRE_64)
        return read_fixed(in, 8, &out->value);
    if (out->wire == WIRE_32)
        return read_fixed(in, 4, &out->value);
    if (out->wire != WIRE_BYTES || !read_varint(in, &out->value) || out->value > (uint64_t)(in->end - in->at))
        return false;
    out->data = in->at;
    out->length = (size_t)out->value;
    in->at += out->length;
    return true;
}

typedef struct model {
    lb_piece *pieces;
    size_t count, capacity;
    uint64_t type, unk, bos;
    bool add_prefix, squeeze, escapes, space_as_suffix, has_charsmap;
} model;

static lb_status broken(const char *where, const char *what, lb_error *err)
{
    return lb_fail(err, LB_EFORMAT, "%s: not a SentencePiece model: its %s is malformed or cut short", where,
                   what);
}

static lb_status read_piece(const field *message, model *out, const char *where, lb_error *err)
{
    lb_piece piece = {{"", 0}, 0.0, LB_PIECE_NORMAL};
    cursor in = {message->data, message->data + message->length};
    while (in.at < in.end) {
        field part;
        if (!read_field(&in, &part))
            return broken(where, "list of pieces", err);
        if (part.number == PIECE_TEXT && part.wire == WIRE_BYTES)
            piece.text = (lb_span){(const char *)part.data, part.length};
        else if (part.number == PIECE_SCORE && part.wire == WIRE_32) {
            uint32_t bits = (uint32_t)part.value;
            float score;
            memcpy(&score, &bits, sizeof score);
            piece.score = score == score ? (double)score : 0.0;
        } else if (part.number == PIECE_TYPE && part.wire == WIRE_VARINT) {
            if (part.value < LB_PIECE_NORMAL || part.value > LB_PIECE_BYTE)
                return broken(where, "type of a piece", err);
            piece.type = (lb_piece_type)part.value;
        }
    }
    if (out->count == LB_VOCAB_MAX)
        return lb_fail(err, LB_EFORMAT, "%s: more than %d pieces", where, LB_VOCAB_MAX);
    if (out->count == out->capacity) {
        size_t capacity = out->capacity < 1024 ? 1024 : 2 * out->capacity;
        lb_piece *bigger = lb_grow(out->pieces, out->count, capacity, sizeof *bigger);
        if (!bigger)
            return lb_fail(err, LB_ENOMEM, "%s: no memory for its pieces", where);
        out->pieces = bigger;
        out->capacity = capacity;
    }
    out->pieces[out->count++] = piece;
    return LB_OK;
}

static lb_status read_settings(const field *message, model *out, const char *where, lb_error *err)
{
    bool trainer = message->number == MODEL_TRAINER;
    cursor in = {message->data, message->data + message->length};
    while (in.at < in.end) {
        field part;
        if (!read_field(&in, &part))
            return broken(where, trainer ? "trainer_spec" : "normalizer_spec", err);
        if (trainer && part.number == TRAINER_MODEL_TYPE)
            out->type = part.value;
        else if (trainer && part.number == TRAINER_SPACE_AS_SUFFIX)
            out->space_as_suffix = part.value != 0;
        else if (trainer && part.number == TRAINER_UNK_ID)
            out->unk = part.value;
        else if (trainer && part.number == TRAINER_BOS_ID)
            out->bos = part.value;
        else if (!trainer && part.number == NORMALIZER_CHARSMAP)
            out->has_charsmap = part.length > 0;
        else if (!trainer && part.number == NORMALIZER_PREFIX)
            out->add_prefix = part.value != 0;
        else if (!trainer && part.number == NORMALIZER_SQUEEZE)
            out->squeeze = part.value != 0;
        else if (!trainer && part.number == NORMALIZER_ESCAPE)
            out->escapes = part.value != 0;
    }
    return LB_OK;
}

static lb_status read_model(const uint8_t *data, size_t size, model *out, const char *where, lb_error *err)
{
    cursor in = {data, data + size};
    while (in.at < in.end) {
        field part;
        if (!read_field(&in, &part))
            return broken(where, "outer message", err);
        if (part.wire != WIRE_BYTES)
            continue;
        if (part.number == MODEL_PIECE)
            LB_TRY(read_piece(&part, out, where, err));
        else if (part.number == MODEL_TRAINER || part.number == MODEL_NORMALIZER)
            LB_TRY(read_settings(&part, out, where, err));
    }
    if (out->count == 0)
        return lb_fail(err, LB_EFORMAT, "%s: not a SentencePiece model: it has no pieces", where);
    if (out->type != MODEL_TYPE_BPE)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: a SentencePiece model of kind %s is not supported, only BPE is", where,
                       out->type == MODEL_TYPE_UNIGRAM ? "unigram" : "word or character");
    if (out->has_charsmap || out->space_as_suffix || !out->escapes)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: a SentencePiece model with %s is not supported", where,
                       out->has_charsmap      ? "its own character map"
                       : out->space_as_suffix ? "spaces as suffixes"
                                              : "unmarked spaces");
    return LB_OK;
}

lb_status lb_tokenizer_from_sentencepiece(const uint8_t *data, size_t size, const char *where,
                                          json_t **tokenizer, lb_error *err)
{
    /* The defaults of the protocol's definition. */
    model read = {
        .type = MODEL_TYPE_UNIGRAM, .unk = 0, .bos = 1, .add_prefix = true, .squeeze = true, .escapes = true};
    lb_status st;
    LB_GO(read_model(data, size, &read, where, err));
    lb_piece_options options = {.unk = read.unk < read.count ? (size_t)read.unk : SIZE_MAX,
                                .bos = read.bos < read.count ? (size_t)read.bos : SIZE_MAX,
                                .add_prefix = read.add_prefix,
                                .squeeze = read.squeeze,
                                .add_bos = read.bos < read.count};
    LB_GO(lb_tokenizer_from_pieces(read.pieces, read.count, &options, where, tokenizer, err));
done:
    lb_free(read.pieces);
    return st;
}
