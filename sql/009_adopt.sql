-- Taking over does again what it did in 006, and 007 left out: a broker that begins at epoch 1 is not taken for one that was
-- overtaken, parked rows are counted off anew, and go when the rows that they were copied from are passed in this database.

CREATE OR REPLACE FUNCTION escrow.outbox_adopt(source text, lane integer, keep_rows boolean) RETURNS pg_snapshot
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
#variable_conflict use_variable
DECLARE
    here record;
    start pg_snapshot;
    known record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'escrow.outbox_adopt: needs READ COMMITTED';
    END IF;
    PERFORM escrow.reader_register(source, lane);
    UPDATE escrow.reader AS r
       SET cleared = 0, -- the new position counts anew
           epoch = 0    -- perhaps another broker, which begins at 1
     WHERE r.source = source AND r.lane = lane;
    UPDATE escrow.outbox_parked AS p SET replay_no = NULL
     WHERE p.source = source AND p.lane = lane AND p.replay_no IS NOT NULL;
    SELECT * INTO here FROM escrow.database_identity();
    IF keep_rows THEN
        SELECT * INTO known FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane;
        IF known.passed IS NOT NULL AND known.system_identifier = here.system_identifier
           AND known.timeline = here.timeline AND known.database_oid = here.database_oid THEN
            RETURN known.passed;
        END IF;
        LOCK TABLE escrow.outbox IN SHARE ROW EXCLUSIVE MODE;
        start := pg_current_snapshot();
        DELETE FROM escrow.outbox AS o
         WHERE NOT EXISTS (SELECT 1 FROM escrow.reader AS r
                            WHERE r.passed IS NULL OR NOT pg_visible_in_snapshot(o.xid, r.passed));
        UPDATE escrow.outbox SET xid = pg_current_xact_id(), milestone = NULL;
        UPDATE escrow.outbox_parked SET xid = pg_current_xact_id();
    ELSE
        LOCK TABLE escrow.outbox IN ACCESS EXCLUSIVE MODE;
        start := pg_current_snapshot();
        TRUNCATE TABLE escrow.outbox;
        UPDATE escrow.outbox_parked SET xid = NULL;
    END IF;
    UPDATE escrow.reader AS r
       SET passed = start, stored = NULL, given_up = NULL, system_identifier = here.system_identifier, timeline = here.timeline,
           database_oid = here.database_oid, reported_at = clock_timestamp();
    RETURN start;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
