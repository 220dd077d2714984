/*
 * Record layout: name length u8, name, owner length u8, owner, lane u32, timeline u32, system id
 * u64, epoch u64, sequence u64, position length u32, position. The checkpoint section is a row of
 * records, each behind its length u32.
 */
#include "src/broker/sources.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <string.h>

#define SOURCE_FIXED_BYTES 38

struct source_key {
    uint8_t bytes[SOURCE_NAME_MAX + 5];
    size_t len;
};

static bool source_key_make(struct source_key *key, struct slice name, uint32_t lane)
{
    if (name.len == 0 || name.len > SOURCE_NAME_MAX || memchr(name.ptr, 0x01, name.len) != NULL ||
        memchr(name.ptr, '\0', name.len) != NULL) {
        return false;
    }
    memcpy(key->bytes, name.ptr, name.len);
    key->bytes[name.len] = 0x01;
    put_le32(key->bytes + name.len + 1, lane);
    key->len = name.len + 5;
    return true;
}

static void source_free(struct source *src)
{
    if (src != NULL) {
        buf_fini(&src->position);
        buf_fini(&src->applied);
        mem_free(src);
    }
}

void sources_init(struct sources *s, struct hash_key key)
{
    strmap_init(&s->by_name, key);
}

void sources_fini(struct sources *s)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&s->by_name, &cursor)) != NULL) {
        source_free(slot->value);
    }
    strmap_fini(&s->by_name);
}

struct source *sources_find(const struct sources *s, struct slice name, uint32_t lane)
{
    struct source_key key;

    return source_key_make(&key, name, lane)
               ? strmap_find(&s->by_name, slice_of(key.bytes, key.len))
               : NULL;
}

int sources_open(const struct sources *s, const struct source_open *open, struct source *next,
                 struct err_ctx *err)
{
    struct source_key key;
    const struct source *old;

    if (!source_key_make(&key, open->name, open->lane) || open->owner.len > SOURCE_OWNER_MAX) {
        return err_set(err, ESCROW_EINVAL, "source name: 1 to %d bytes without control bytes",
                       SOURCE_NAME_MAX);
    }
    old = strmap_find(&s->by_name, slice_of(key.bytes, key.len));
    if (old == NULL && s->by_name.count >= SOURCES_MAX) {
        return err_set(err, ESCROW_ELIMIT, "more than %d outbox sources", SOURCES_MAX);
    }
    if (old != NULL && !open->adopt &&
        (old->system_id != open->system_id || old->timeline != open->timeline)) {
        return err_set(err, ESCROW_EFOREIGN,
                       "source %s is of the database %" PRIu64 "/%" PRIu32
                       " (system/timeline), this one is %" PRIu64 "/%" PRIu32,
                       old->name, old->system_id, old->timeline, open->system_id, open->timeline);
    }
    *next = old != NULL ? *old : (struct source){.lane = open->lane};
    (void)slice_to_cstr(open->name, next->name, sizeof next->name);
    (void)slice_to_cstr(open->owner, next->owner, sizeof next->owner);
    next->system_id = open->system_id;
    next->timeline = open->timeline;
    next->epoch++;
    next->sequence++;
    return 0;
}

int sources_advance(const struct source *src, uint64_t epoch, struct slice prev, struct slice to,
                    struct source *next)
{
    if (src == NULL || src->epoch != epoch) {
        return ESCROW_EFENCED;
    }
    if (to.len == 0) {
        return ESCROW_EINVAL;
    }
    if (to.len > SOURCE_POSITION_MAX) {
        return ESCROW_ETOOBIG;
    }
    if (slice_eq(to, buf_slice(&src->position))) {
        return ESCROW_EEXIST;
    }
    if (!slice_eq(prev, buf_slice(&src->position))) {
        return ESCROW_ECONFLICT;
    }
    *next = *src;
    next->sequence++;
    /* Borrowed: the table copies it in sources_note. */
    next->position =
        (struct buf){.ptr = (uint8_t *)(uintptr_t)to.ptr, .len = to.len, .cap = to.len};
    return 0;
}

void source_encode(struct buf *out, const struct source *src)
{
    size_t name_len = strlen(src->name);
    size_t owner_len = strlen(src->owner);

    buf_append_u8(out, (uint8_t)name_len);
    buf_append(out, src->name, name_len);
    buf_append_u8(out, (uint8_t)owner_len);
    buf_append(out, src->owner, owner_len);
    buf_append_le32(out, src->lane);
    buf_append_le32(out, src->timeline);
    buf_append_le64(out, src->system_id);
    buf_append_le64(out, src->epoch);
    buf_append_le64(out, src->sequence);
    buf_append_le32(out, (uint32_t)src->position.len);
    buf_append_slice(out, buf_slice(&src->position));
}

/* Decode a whole record; the position is borrowed from `in`. */
static bool source_decode(struct slice in, struct source *src)
{
    struct source_key key; /* can be made: the name is sound */
    size_t name_len;
    size_t owner_len;
    size_t position_len;
    const uint8_t *p = in.ptr;

    if (in.len < SOURCE_FIXED_BYTES) {
        return false;
    }
    name_len = p[0];
    if (name_len == 0 || name_len > SOURCE_NAME_MAX || in.len < SOURCE_FIXED_BYTES + name_len) {
        return false;
    }
    owner_len = p[1 + name_len];
    if (owner_len > SOURCE_OWNER_MAX || in.len < SOURCE_FIXED_BYTES + name_len + owner_len) {
        return false;
    }
    *src = (struct source){.lane = 0};
    (void)slice_to_cstr(slice_of(p + 1, name_len), src->name, sizeof src->name);
    (void)slice_to_cstr(slice_of(p + 2 + name_len, owner_len), src->owner, sizeof src->owner);
    p += 2 + name_len + owner_len;
    src->lane = get_le32(p);
    src->timeline = get_le32(p + 4);
    src->system_id = get_le64(p + 8);
    src->epoch = get_le64(p + 16);
    src->sequence = get_le64(p + 24);
    position_len = get_le32(p + 32);
    src->position = (struct buf){
        .ptr = (uint8_t *)(uintptr_t)(p + 36), .len = position_len, .cap = position_len};
    return position_len <= SOURCE_POSITION_MAX &&
           source_key_make(&key, slice_of(in.ptr + 1, name_len), src->lane) &&
           in.len == SOURCE_FIXED_BYTES + name_len + owner_len + position_len;
}

int sources_note(struct sources *s, const struct source *next, uint64_t log_offset)
{
    struct source *src = sources_find(s, slice_str(next->name), next->lane);
    struct buf applied = {0};
    struct buf position;

    buf_init(&position, 0);
    buf_append_slice(&position, buf_slice(&next->position));
    if (buf_failed(&position)) {
        buf_fini(&position);
        return ESCROW_ENOMEM;
    }
    if (src == NULL) {
        struct source_key key;
        int rc;
        CHECK(source_key_make(&key, slice_str(next->name), next->lane));
        src = mem_calloc(1, sizeof *src);
        rc = src == NULL ? ESCROW_ENOMEM
                         : strmap_put(&s->by_name, slice_of(key.bytes, key.len), src);
        if (rc != 0) {
            mem_free(src);
            buf_fini(&position);
            return rc;
        }
    } else {
        CHECK(next->epoch >= src->epoch);
        CHECK(next->sequence > src->sequence);
        buf_fini(&src->position);
        applied = src->applied;
    }
    *src = *next;
    src->position = position;
    src->applied = applied;
    src->log_offset = log_offset;
    return 0;
}

int sources_apply(struct sources *s, struct slice payload, struct err_ctx *err)
{
    struct source decoded;
    struct source *src;
    int rc = 0;

    if (!source_decode(payload, &decoded)) {
        return err_set(err, ESCROW_ECORRUPT, "malformed POSITION record");
    }
    src = sources_find(s, slice_str(decoded.name), decoded.lane);
    if (src != NULL && src->sequence < decoded.sequence && src->epoch > decoded.epoch) {
        return err_set(err, ESCROW_ECORRUPT, "POSITION record: the epoch of source %s goes back",
                       decoded.name);
    }
    if (src == NULL || src->sequence < decoded.sequence) {
        rc = sources_note(s, &decoded, 0);
    }
    if (rc == 0) {
        src = sources_find(s, slice_str(decoded.name), decoded.lane);
        CHECK(src != NULL);
        buf_clear(&src->applied);
        buf_append_slice(&src->applied, payload);
        rc = buf_failed(&src->applied) ? ESCROW_ENOMEM : 0;
    }
    return rc == 0 ? 0 : err_set(err, rc, "POSITION record: %s", escrow_strerror(rc));
}

void sources_save(const struct sources *s, struct buf *out)
{
    size_t cursor = 0;
    const struct source *src;

    while ((src = sources_next(s, &cursor)) != NULL) {
        if (src->applied.len > 0) {
            buf_append_le32(out, (uint32_t)src->applied.len);
            buf_append_slice(out, buf_slice(&src->applied));
        }
    }
}

int sources_load(struct sources *s, struct slice section, struct err_ctx *err)
{
    while (section.len >= 4) {
        size_t len = get_le32(section.ptr);
        int rc;
        if (len > section.len - 4) {
            break;
        }
        rc = sources_apply(s, slice_of(section.ptr + 4, len), err);
        if (rc != 0) {
            return rc;
        }
        section = slice_of(section.ptr + 4 + len, section.len - 4 - len);
    }
    return section.len == 0
               ? 0
               : err_set(err, ESCROW_ECORRUPT, "checkpoint section sources: cut short");
}

const struct source *sources_next(const struct sources *s, size_t *cursor)
{
    const struct strmap_slot *slot = strmap_next(&s->by_name, cursor);

    return slot == NULL ? NULL : slot->value;
}
