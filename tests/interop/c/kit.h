/*
 * What the cases share: an inbox, names of their own, the end of a case that fails.
 *
 * Thread:  the inbox: any. Everything else: the case's.
 * Errors:  a case that fails says why and ends its process.
 */
#ifndef TESTS_INTEROP_C_KIT_H
#define TESTS_INTEROP_C_KIT_H

#include <escrow/escrow.h>

#include <stdbool.h>
#include <stddef.h>

#define WAIT_S       40  /* what has not come by then never will */
#define CASE_SECONDS 120 /* a case, and a process that it starts */

#define NEED(expr)                                                                                 \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fail("line %d: %s (last error: %s)", __LINE__, #expr, escrow_last_error());            \
        }                                                                                          \
    } while (0)
#define OK(expr) NEED((expr) == 0)

_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A fact that each server should show alike, for compare.py. */
void note(const char *what, const char *value);

/* Set before a case runs. */
extern const char *name_server;
extern const char *case_name;
extern char topic[64]; /* of this run and case; the group is its twin */
extern char group[64];

struct escrow_client *client_new(void);
struct escrow_producer *producer_new(struct escrow_client *c);

/* Body is the text; freed by the caller. */
struct escrow_message *message_new(const char *text);
void send_text(struct escrow_producer *p, const char *text);
void send_numbers(struct escrow_producer *p, int first, int count);

/* A handler that puts bodies into the inbox. */
enum escrow_consume_result to_inbox(const struct escrow_delivery *message, void *arg);
void inbox_add(const char *text);
size_t inbox_count(void);
size_t inbox_count_of(const char *text);
size_t inbox_distinct(void);
const char *inbox_at(size_t i);
void inbox_wait_distinct(size_t count); /* fails the case after WAIT_S */
void inbox_wait_for(const char *text, size_t least);

/* A started consumer of the case's group and topic. handler NULL: a polled one. */
struct escrow_consumer *consume(struct escrow_client *c, const char *expression,
                                const struct escrow_option *options, escrow_handler_fn *handler);

/* members.c: does not return if there is such a role (a process that a case starts and kills). */
void run_role(const char *role);
void case_killed(void);
void case_instance(void);
void case_reset(void);

/* access.c */
void case_access_keys(void);
void case_access_keys_refused(void);
void case_access_keys_permissions(void);
void case_tls(void);
void case_tls_refused(void);

#endif
