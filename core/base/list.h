/*
 * Intrusive doubly linked list. The node lives in the object; a list owns nothing.
 * Thread:  the owner's.
 */
#ifndef CORE_BASE_LIST_H
#define CORE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev;
    struct list *next;
};

#define LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->prev = l;
    l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

/* Put `node` at the end. */
static inline void list_push(struct list *l, struct list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

/* Everything in `from`, in its order, behind what is in `to`. */
static inline void list_move_all(struct list *from, struct list *to)
{
    if (!list_is_empty(from)) {
        from->next->prev = to->prev;
        from->prev->next = to;
        to->prev->next = from->next;
        to->prev = from->prev;
        list_init(from);
    }
}

/*
 * Take `node` out of whatever list it is in; it then is an empty list of its own, so that removing
 * twice is harmless.
 */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Safe against removal of the current node. */
#define LIST_FOREACH(pos, tmp, head)                                                               \
    for ((pos) = (head)->next, (tmp) = (pos)->next; (pos) != (head);                               \
         (pos) = (tmp), (tmp) = (pos)->next)

#endif
