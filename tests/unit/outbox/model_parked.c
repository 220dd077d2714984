#include "tests/unit/outbox/model_parked.h"

#include "core/base/check.h"

#include <stdlib.h>

int model_topic(const struct model_db *db, size_t row)
{
    int key = db->rows[row].key;

    return key >= 0 ? key % MODEL_TOPICS : (int)(db->rows[row].id % MODEL_TOPICS);
}

static bool is_waiting(const struct model_parked *p, size_t row, uint64_t replayed)
{
    return p->is_parked[row] && (p->replay_no[row] == 0 || p->replay_no[row] > replayed);
}

static void put(struct model_parked *p, size_t row, bool wanted)
{
    CHECK(p->db->txns[p->db->rows[row].txn].fate == MODEL_COMMITTED);
    p->is_parked[row] = true;
    p->ever[row] = true;
    p->wanted[row] = wanted;
    p->number[row] = ++p->last_number;
    p->replay_no[row] = 0;
}

void model_park(struct model_parked *p, size_t row, bool is_whole_topic)
{
    int key = p->db->rows[row].key;
    uint64_t from;

    if (!p->is_parked[row]) {
        put(p, row, false);
    }
    from = p->replay_no[row];
    for (size_t i = 0; i < p->db->row_count; i++) {
        bool is_behind = p->replay_no[i] == 0 || (from > 0 && p->replay_no[i] >= from);
        bool is_same = i == row ||
                       (is_whole_topic && model_topic(p->db, i) == model_topic(p->db, row)) ||
                       (key >= 0 && p->db->rows[i].key == key);
        if (p->is_parked[i] && p->wanted[i] && is_behind && is_same) {
            p->wanted[i] = false;
            p->replay_no[i] = 0;
        }
    }
    if (is_whole_topic) {
        p->topics[model_topic(p->db, row)] = (struct model_hold){.is_held = true};
    } else if (key >= 0) {
        p->keys[key] = (struct model_hold){.is_held = true};
    }
}

void model_set_aside(struct model_parked *p, const struct position *at)
{
    static size_t rows[MODEL_ROW_MAX];
    size_t count = model_db_read(p->db, at, rows, MODEL_ROW_MAX);

    for (size_t i = 0; i < count; i++) {
        int key = p->db->rows[rows[i]].key;
        const struct model_hold *topic = &p->topics[model_topic(p->db, rows[i])];
        const struct model_hold *own = key >= 0 ? &p->keys[key] : NULL;
        bool by_key = own != NULL && own->is_held;
        if (!p->is_parked[rows[i]] && (topic->is_held || by_key)) {
            put(p, rows[i], (!topic->is_held || topic->wanted) && (!by_key || own->wanted));
        }
    }
}

bool model_has_parked(const struct model_parked *p)
{
    for (size_t i = 0; i < p->db->row_count; i++) {
        if (p->is_parked[i]) {
            return true;
        }
    }
    return false; /* a hold has rows, or is cleared with them */
}

bool model_wants_replay(const struct model_parked *p, uint64_t replayed)
{
    for (size_t i = 0; i < p->db->row_count; i++) {
        if (p->wanted[i] && is_waiting(p, i, replayed)) {
            return true;
        }
    }
    for (int i = 0; i < MODEL_TOPICS; i++) {
        const struct model_hold *h = &p->topics[i];
        if (h->is_held && h->is_due && !h->wanted && !h->is_tried) {
            return true;
        }
    }
    return false;
}

/* The parked row with the lowest number above `after` of this topic; SIZE_MAX: none. */
static size_t next_row(const struct model_parked *p, int topic, uint64_t after, uint64_t replayed)
{
    size_t best = SIZE_MAX;

    for (size_t i = 0; i < p->db->row_count; i++) {
        if (is_waiting(p, i, replayed) && p->number[i] > after &&
            (topic < 0 || model_topic(p->db, i) == topic) &&
            (best == SIZE_MAX || p->number[i] < p->number[best])) {
            best = i;
        }
    }
    return best;
}

static const struct model_parked *sort_parked;

static int compare_replay(const void *a, const void *b)
{
    uint64_t x = sort_parked->replay_no[*(const size_t *)a];
    uint64_t y = sort_parked->replay_no[*(const size_t *)b];

    return x < y ? -1 : x > y;
}

size_t model_count_off(struct model_parked *p, uint64_t replayed, size_t *out)
{
    uint64_t base = replayed;
    uint64_t after = 0;
    size_t count = 0;
    size_t row;

    for (int i = 0; i < MODEL_TOPICS; i++) {
        struct model_hold *h = &p->topics[i];
        if (h->is_held && h->is_due && !h->wanted && !h->is_tried) {
            h->is_tried = true;
            h->is_due = false;
            row = next_row(p, i, 0, replayed);
            if (row != SIZE_MAX) {
                p->wanted[row] = true;
            }
        }
    }
    for (size_t i = 0; i < p->db->row_count; i++) {
        base = p->is_parked[i] && p->wanted[i] && p->replay_no[i] > base ? p->replay_no[i] : base;
    }
    while ((row = next_row(p, -1, after, replayed)) != SIZE_MAX) {
        after = p->number[row];
        if (p->wanted[row] && p->replay_no[row] == 0) {
            p->replay_no[row] = ++base;
        }
    }
    for (size_t i = 0; i < p->db->row_count; i++) {
        if (p->is_parked[i] && p->wanted[i] && p->replay_no[i] > replayed) {
            out[count++] = i;
        }
    }
    sort_parked = p;
    qsort(out, count, sizeof *out, compare_replay);
    return count;
}

static void clear_tried(struct model_parked *p, uint64_t replayed)
{
    for (int topic = 0; topic < MODEL_TOPICS; topic++) {
        struct model_hold *h = &p->topics[topic];
        bool is_open = h->is_held && h->is_tried;
        for (size_t i = 0; i < p->db->row_count; i++) {
            is_open = is_open && !(model_topic(p->db, i) == topic && p->wanted[i] &&
                                   is_waiting(p, i, replayed));
        }
        if (!is_open) {
            continue;
        }
        h->wanted = true;
        h->is_tried = false;
        for (size_t i = 0; i < p->db->row_count; i++) {
            int key = p->db->rows[i].key;
            bool is_blocked = key >= 0 && p->keys[key].is_held && !p->keys[key].wanted;
            if (p->is_parked[i] && model_topic(p->db, i) == topic && !is_blocked) {
                p->wanted[i] = true;
            }
        }
    }
}

void model_clear(struct model_parked *p, const struct position *acked)
{
    bool topic_waits[MODEL_TOPICS] = {false};
    bool key_waits[MODEL_KEYS] = {false};

    clear_tried(p, acked->replayed);
    for (size_t i = 0; i < p->db->row_count; i++) {
        const struct model_row *row = &p->db->rows[i];
        if (is_waiting(p, i, acked->replayed)) {
            topic_waits[model_topic(p->db, i)] = true;
            if (row->key >= 0) {
                key_waits[row->key] = true;
            }
        } else if (p->is_parked[i] && snapshot_sees(&acked->old, p->db->txns[row->txn].xid)) {
            p->is_parked[i] = false;
            p->wanted[i] = false;
            p->replay_no[i] = 0;
        }
    }
    for (int i = 0; i < MODEL_TOPICS; i++) {
        p->topics[i].is_held = p->topics[i].is_held && topic_waits[i];
    }
    for (int i = 0; i < MODEL_KEYS; i++) {
        p->keys[i].is_held = p->keys[i].is_held && key_waits[i];
    }
}

/* Is everything of it to be published? */
static bool is_all_wanted(const struct model_parked *p, int topic, int key)
{
    for (size_t i = 0; i < p->db->row_count; i++) {
        if (p->is_parked[i] && !p->wanted[i] &&
            (key >= 0 ? p->db->rows[i].key == key : model_topic(p->db, i) == topic)) {
            return false;
        }
    }
    return true;
}

void model_replay(struct model_parked *p, int key, struct rand *rand)
{
    uint64_t up_to = key < 0 ? UINT64_MAX : rand_below(rand, p->last_number + 1);

    for (size_t i = 0; i < p->db->row_count; i++) {
        if (p->is_parked[i] && (key < 0 || (p->db->rows[i].key == key && p->number[i] <= up_to))) {
            p->wanted[i] = true;
        }
    }
    for (int i = 0; i < MODEL_TOPICS; i++) {
        if (p->topics[i].is_held && !p->topics[i].wanted && is_all_wanted(p, i, -1)) {
            p->topics[i].wanted = true;
            p->topics[i].is_tried = false;
        }
    }
    for (int i = 0; i < MODEL_KEYS; i++) {
        p->keys[i].wanted = p->keys[i].wanted || (p->keys[i].is_held && is_all_wanted(p, -1, i));
    }
}
