-- Roles with the least that is needed. Run once with psql, after `escrow-relay migrate`, as the owner of the schema with the
-- right to create roles; run it again after an upgrade. Then: GRANT escrow_publisher TO my_service; and so on.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['escrow_publisher', 'escrow_consumer', 'escrow_relay', 'escrow_check'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA escrow TO escrow_publisher, escrow_consumer, escrow_relay, escrow_check;

-- Services that publish, through the outbox or with half messages. No access to any table; to one view, for inserting.
GRANT EXECUTE ON FUNCTION
    escrow.publish(text, bytea, text, text, text, jsonb),
    escrow.publish_text(text, text, text, text, text, jsonb),
    escrow.publish_json(text, jsonb, text, text, text, jsonb),
    escrow.transaction_mark(text, text, bigint),
    escrow.transaction_begin(),
    escrow.session_identity(),
    escrow.database_identity()
TO escrow_publisher;
GRANT INSERT ON escrow.marking TO escrow_publisher;

-- Services that consume.
GRANT EXECUTE ON FUNCTION
    escrow.inbox_accept(text, text, bigint),
    escrow.inbox_accept(text, text, text),
    escrow.inbox_clean(timestamptz, integer)
TO escrow_consumer;

-- escrow-relay run, status, replay.
GRANT SELECT ON escrow.outbox, escrow.outbox_parked, escrow.outbox_hold, escrow.reader, escrow.outbox_state, escrow.migration, escrow.lineage, escrow.transaction_marker,
    escrow.broker, escrow.outbox_id TO escrow_relay;
GRANT EXECUTE ON FUNCTION
    escrow.database_identity(),
    escrow.reader_register(text, integer),
    escrow.reader_says(text, integer, text),
    escrow.reader_refuses(text, integer, text),
    escrow.reader_report(text, integer, pg_snapshot, bigint),
    escrow.reader_report(text, integer, pg_snapshot, pg_snapshot, bigint),
    escrow.reader_put_back(text, integer, bigint, pg_snapshot, bigint, text, boolean),
    escrow.outbox_read(xid8[], xid8, xid8, pg_snapshot),
    escrow.reader_claims(text, integer, bigint),
    escrow.outbox_park(text, integer, bigint, bigint, boolean, text),
    escrow.outbox_set_aside(text, integer, bigint, xid8[], xid8, xid8, pg_snapshot, bigint, bigint),
    escrow.parked_count_off(text, integer, bigint, bigint),
    escrow.parked_clear(text, integer, bigint, pg_snapshot, bigint),
    escrow.parked_replay(bigint[]),
    escrow.outbox_rotate(bigint, interval),
    escrow.outbox_adopt(text, integer, boolean),
    escrow.transaction_clean(text[], bigint[], bigint[], boolean, interval, timestamptz, integer),
    escrow.make_durable()
TO escrow_relay;

-- escrow-relay check-endpoint.
GRANT SELECT ON escrow.migration, escrow.lineage TO escrow_check;
GRANT EXECUTE ON FUNCTION
    escrow.database_identity(),
    escrow.transaction_check(text, xid8, text, integer, text)
TO escrow_check;
GRANT escrow_check TO escrow_relay;

-- So that `escrow-relay status` can name the sessions that hold something back, a superuser may add:
--   GRANT pg_read_all_stats TO escrow_relay;
