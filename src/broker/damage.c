#include "src/broker/damage.h"

#include "core/base/log.h"
#include "src/broker/broker.h"

#include <inttypes.h>

static void tell_entry(const struct store_damage *d)
{
    if (d->is_skipped) {
        log_warn("store.damaged",
                 "topic %.*s queue %u offset %" PRId64 ": %s; passed over, as an "
                 "operator allowed",
                 SLICE_ARGS(d->topic), d->queue_id, d->queue_offset, d->text);
        return;
    }
    log_error("store.damaged",
              "topic %.*s queue %u offset %" PRId64 ": %s; consumers of the queue stop there until "
              "the file is put right (stop the broker, restore it from a backup) or they are let "
              "go on without the message: escrow skip-damaged %.*s %u %" PRId64,
              SLICE_ARGS(d->topic), d->queue_id, d->queue_offset, d->text, SLICE_ARGS(d->topic),
              d->queue_id, d->queue_offset);
}

void damage_tell(void *arg, const struct store_damage *d)
{
    const struct broker *b = arg;

    if (d->has_entry) {
        tell_entry(d);
    } else {
        log_error("store.damaged",
                  "%s; of a message that is held: if it is an undecided half nobody can be asked "
                  "about it any more, decide it by hand: escrow transactions, escrow decide "
                  "commit|rollback OFFSET",
                  d->text);
    }
    if (store_stats(b->store).damaged == STORE_DAMAGED_MAX) {
        log_error("store.damaged.many",
                  "that was the %uth place: further ones are not told until the broker starts "
                  "again; stop it and see escrow verify",
                  STORE_DAMAGED_MAX);
    }
}

void damage_tell_index(void *arg, const char *text)
{
    (void)arg;
    log_error(
        "store.index.lost",
        "%s; the file is removed: messages stored in its range of the log are not found by key, "
        "and committed halves among them not by offset, until the broker starts again and builds "
        "it again from the log; nothing is lost",
        text);
}

void damage_rebuilt(void *arg, const struct store_rebuilt *r)
{
    (void)arg;
    if (r->count > 0) {
        log_warn("store.queue.rebuilt",
                 "%s: damaged or missing; %u entries of topic %.*s queue %u from here on rebuilt "
                 "from the log, no message is lost",
                 r->text, r->count, SLICE_ARGS(r->topic), r->queue_id);
    }
    if (r->why[0] != '\0') {
        log_error("store.queue.damaged",
                  "%s: damaged or missing; %u entries of topic %.*s queue %u could not be rebuilt "
                  "from the log: %s",
                  r->text, r->left, SLICE_ARGS(r->topic), r->queue_id, r->why);
    }
}

void damage_advise(struct err_ctx *err, const struct store_entry_ref *entry)
{
    char text[ERR_TEXT_MAX];

    (void)slice_to_cstr(slice_str(err->text), text, sizeof text);
    (void)err_set(err, err->code,
                  "the message at offset %" PRId64
                  " is damaged and nothing behind it is delivered; an operator may restore the "
                  "file, or let consumers go on: escrow skip-damaged %.*s %u %" PRId64 ": %s",
                  entry->offset, SLICE_ARGS(entry->topic), entry->queue_id, entry->offset, text);
}
