/*
 * The real half-message store behind a store under test; for test_store.c only. It obeys txn/txn.h
 * the way the broker does.
 *
 * Owns:    ts->txn.
 * Thread:  one.
 * Errors:  those of txn and store.
 */
#ifndef TESTS_LIB_TEST_TXN_H
#define TESTS_LIB_TEST_TXN_H

#include "tests/lib/test_store.h"

#define TEST_TXN_GROUP "group"

void test_txn_new(struct test_store *ts);
void test_txn_free(struct test_store *ts); /* fine without one */
void test_txn_recovered(struct test_store *ts);
void test_txn_sync_reserve(struct test_store *ts);

/* HALF, DECISION, HELD, RELEASE, after the owner's small table has taken the half. */
ESCROW_MUST_USE int test_txn_apply(struct test_store *ts, const struct store_record *rec,
                                   struct err_ctx *err);
ESCROW_MUST_USE int test_txn_save(struct test_store *ts, struct store_sections *sections);
ESCROW_MUST_USE int test_txn_save_more(struct test_store *ts, uint8_t *bytes);
ESCROW_MUST_USE int test_txn_load(struct test_store *ts, struct slice name, struct slice data,
                                  struct err_ctx *err);

ESCROW_MUST_USE int test_txn_append(struct test_store *ts, const struct record_fields *f,
                                    struct store_receipt *out);
ESCROW_MUST_USE int test_txn_hold(struct test_store *ts, const struct record_fields *f,
                                  int64_t due_ms, struct store_receipt *out);
ESCROW_MUST_USE int test_txn_decide(struct test_store *ts, bool commit, const uint64_t *offsets,
                                    uint32_t count, struct store_receipt *out);

#endif
