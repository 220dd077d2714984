-- What a broker that was put back to an older state no longer has: is it still in the outbox, or was it given up?

ALTER TABLE escrow.reader
    ADD COLUMN stored   pg_snapshot,                -- of the broker's position, as of the last report; NULL: not told
    ADD COLUMN given_up pg_snapshot,                -- `stored` of when rows were truncated last: it sees all of them; NULL: none were
    ADD COLUMN cleared  bigint NOT NULL DEFAULT 0;  -- parked rows that were published again are removed up to this number

-- A reader says what it has passed, and the snapshot of the position that its broker has: `passed` may be later by nothing but time.
CREATE FUNCTION escrow.reader_report(source text, lane integer, passed pg_snapshot, stored pg_snapshot, rows_acked bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    made bigint;
BEGIN
    made := escrow.reader_report(source, lane, passed, rows_acked);
    UPDATE escrow.reader AS r SET stored = stored WHERE r.source = source AND r.lane = lane;
    RETURN made;
END
$$;

-- The reader's broker was put back to this position: what it does not see is not passed any more. Only by the reader that claimed
-- the outbox. given_up: what the reader knows to be given up, and has compared; accepts: a person has said that what is missing stays
-- missing.
CREATE FUNCTION escrow.reader_put_back(source text, lane integer, epoch bigint, stored pg_snapshot, replayed bigint,
                                       given_up text, accepts boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    known record;
BEGIN
    SELECT * INTO known FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane AND r.epoch = epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF accepts THEN
        UPDATE escrow.reader AS r
           SET given_up = CASE WHEN r.given_up IS NOT NULL THEN stored END, cleared = least(r.cleared, replayed)
         WHERE r.source = source AND r.lane = lane;
    ELSIF coalesce(known.given_up::text, '') <> given_up THEN
        RAISE EXCEPTION 'escrow.reader_put_back: rows were given up meanwhile';
    END IF;
    UPDATE escrow.reader AS r SET passed = stored, stored = stored WHERE r.source = source AND r.lane = lane;
    PERFORM escrow.make_durable();
END
$$;

-- Empty the partitions that every reader has passed, and go on to the next one when the current one is big or old enough.
-- Never waits for a lock: what is in use is left for the next time. What is emptied is given up: no broker may be behind it.
CREATE OR REPLACE FUNCTION escrow.outbox_rotate(switch_bytes bigint DEFAULT 268435456, switch_after interval DEFAULT '5 minutes',
                                     OUT emptied integer, OUT is_switched boolean, OUT blocked integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    state escrow.outbox_state;
    next smallint;
    bytes bigint;
BEGIN
    emptied := 0;
    is_switched := false;
    blocked := 0;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'escrow.outbox_rotate: needs READ COMMITTED: an older snapshot could hide rows that are still needed';
    END IF;
    IF NOT pg_try_advisory_xact_lock(1702060914, 2) THEN
        RETURN;
    END IF;
    SELECT * INTO state FROM escrow.outbox_state;
    FOR slot IN 0..3 LOOP
        CONTINUE WHEN slot = state.slot OR pg_relation_size(format('escrow.outbox_%s', slot)::regclass) = 0;
        CONTINUE WHEN escrow.outbox_is_needed(slot::smallint);
        BEGIN
            EXECUTE format('LOCK TABLE escrow.outbox_%s IN ACCESS EXCLUSIVE MODE NOWAIT', slot);
            PERFORM 1 FROM escrow.reader FOR UPDATE NOWAIT; -- nobody goes back behind what is given up now
            -- Alone now: no transaction can hold rows here that are not visible yet. Look again.
            IF NOT escrow.outbox_is_needed(slot::smallint) THEN
                EXECUTE format('TRUNCATE TABLE escrow.outbox_%s', slot);
                UPDATE escrow.reader AS r SET given_up = r.stored WHERE r.stored IS NOT NULL;
                emptied := emptied + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            blocked := blocked + 1;
        END;
    END LOOP;
    next := (state.slot + 1) % 4;
    bytes := pg_total_relation_size(format('escrow.outbox_%s', state.slot)::regclass);
    IF pg_relation_size(format('escrow.outbox_%s', state.slot)::regclass) > 0
       AND (bytes >= switch_bytes OR clock_timestamp() >= state.current_since + switch_after)
       AND pg_relation_size(format('escrow.outbox_%s', next)::regclass) = 0
    THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION escrow.outbox_slot() RETURNS smallint '
                       'LANGUAGE sql IMMUTABLE PARALLEL SAFE AS ''SELECT %s::smallint''', next);
        UPDATE escrow.outbox_state SET slot = next, current_since = clock_timestamp(), rotations = rotations + 1;
        is_switched := true;
    END IF;
END
$$;

-- As in 001; what was known of the broker's position is forgotten with the identity that it was of.
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
    UPDATE escrow.reader AS r SET cleared = 0 WHERE r.source = source AND r.lane = lane; -- the new position counts anew
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
    ELSE
        LOCK TABLE escrow.outbox IN ACCESS EXCLUSIVE MODE;
        start := pg_current_snapshot();
        TRUNCATE TABLE escrow.outbox;
    END IF;
    UPDATE escrow.reader AS r
       SET passed = start, stored = NULL, given_up = NULL, system_identifier = here.system_identifier, timeline = here.timeline,
           database_oid = here.database_oid, reported_at = clock_timestamp();
    RETURN start;
END
$$;

-- As in 006; up to which number of the replay rows are removed is kept.
CREATE OR REPLACE FUNCTION escrow.parked_clear(source text, lane integer, epoch bigint, passed pg_snapshot, replayed bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT escrow.reader_owns(source, lane, epoch) THEN
        RETURN false;
    END IF;
    WITH tried AS (
        UPDATE escrow.outbox_hold AS h SET wanted = true, is_tried = false
         WHERE h.source = source AND h.lane = lane AND h.is_tried
           AND NOT EXISTS (SELECT 1 FROM escrow.outbox_parked AS p
                            WHERE p.source = source AND p.lane = lane AND p.topic = h.topic AND p.wanted
                              AND (p.replay_no IS NULL OR p.replay_no > replayed))
        RETURNING h.topic)
    UPDATE escrow.outbox_parked AS p SET wanted = true
      FROM tried AS t
     WHERE p.source = source AND p.lane = lane AND p.topic = t.topic AND NOT p.wanted
       AND NOT EXISTS (SELECT 1 FROM escrow.outbox_hold AS k
                        WHERE k.source = source AND k.lane = lane AND k.topic = p.topic AND k.ordering_key = p.ordering_key
                          AND NOT k.wanted);
    DELETE FROM escrow.outbox_hold AS h
     WHERE h.source = source AND h.lane = lane
       AND NOT EXISTS (SELECT 1 FROM escrow.outbox_parked AS p
                        WHERE p.source = source AND p.lane = lane AND p.topic = h.topic
                          AND (h.ordering_key = '' OR p.ordering_key = h.ordering_key)
                          AND (p.replay_no IS NULL OR p.replay_no > replayed));
    DELETE FROM escrow.outbox_parked AS p
     WHERE p.source = source AND p.lane = lane AND p.wanted AND p.replay_no <= replayed
       AND (p.xid IS NULL OR pg_visible_in_snapshot(p.xid, passed));
    IF FOUND THEN
        UPDATE escrow.reader AS r SET cleared = replayed WHERE r.source = source AND r.lane = lane AND r.cleared < replayed;
    END IF;
    RETURN true;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
