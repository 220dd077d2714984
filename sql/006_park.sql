-- What the broker refuses is set aside, with everything behind it that must not overtake it; and goes back in its place.

ALTER TABLE escrow.reader
    ADD COLUMN epoch bigint NOT NULL DEFAULT 0, -- of the relay that may set rows aside: the highest the broker gave to one
    DROP COLUMN parked_id;

CREATE SEQUENCE escrow.parked_number AS bigint CACHE 1;

ALTER TABLE escrow.outbox_parked
    ADD COLUMN number    bigint,                         -- the order in which they would have been published
    ADD COLUMN xid       xid8,                           -- of the row in the outbox; NULL: passed long ago
    ADD COLUMN wanted    boolean NOT NULL DEFAULT false, -- is to be published again
    ADD COLUMN replay_no bigint;                         -- as the so-manieth; the reader's position says up to where it is done

UPDATE escrow.outbox_parked AS p
   SET number = n.number
  FROM (SELECT q.source, q.lane, q.id, nextval('escrow.parked_number') AS number
          FROM (SELECT * FROM escrow.outbox_parked ORDER BY id) AS q) AS n
 WHERE n.source = p.source AND n.lane = p.lane AND n.id = p.id;
-- What was parked last may not be passed yet.
UPDATE escrow.outbox_parked AS p SET xid = o.xid FROM escrow.outbox AS o WHERE o.id = p.id;
ALTER TABLE escrow.outbox_parked
    ALTER COLUMN number SET DEFAULT nextval('escrow.parked_number'),
    ALTER COLUMN number SET NOT NULL;
CREATE INDEX outbox_parked_key ON escrow.outbox_parked (source, lane, topic, ordering_key, number);
CREATE INDEX outbox_parked_wanted ON escrow.outbox_parked (source, lane, replay_no) WHERE wanted;

-- What new rows are set aside for. ordering_key '': every row of the topic.
CREATE TABLE escrow.outbox_hold (
    source       text        NOT NULL,
    lane         integer     NOT NULL,
    topic        text        NOT NULL,
    ordering_key text        NOT NULL,
    error        text        NOT NULL,
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    wanted       boolean     NOT NULL DEFAULT false, -- all its rows are to be published, those that are still to come too
    is_tried     boolean     NOT NULL DEFAULT false, -- its first row is, to see whether the topic takes it
    try_at       timestamptz,                        -- topics: when that is next due
    tries        integer     NOT NULL DEFAULT 0,
    PRIMARY KEY (source, lane, topic, ordering_key)
);

-- The relay with this epoch is at work now: others may not set rows aside any more. false: a newer one is.
CREATE FUNCTION escrow.reader_claims(source text, lane integer, epoch bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE escrow.reader AS r SET epoch = epoch WHERE r.source = source AND r.lane = lane AND r.epoch <= epoch;
    RETURN FOUND;
END
$$;

-- Is this relay still at work? Until the transaction ends nobody else sets aside or gives back.
CREATE FUNCTION escrow.reader_owns(source text, lane integer, epoch bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'escrow.reader_owns: needs READ COMMITTED: an older snapshot could hide what was set aside';
    END IF;
    PERFORM 1 FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane AND r.epoch = epoch FOR UPDATE;
    RETURN FOUND;
END
$$;

-- A row that the broker refuses is copied to the parked ones before the reader passes it, and its key is held, or, when it is
-- the topic that takes nothing, the topic. A row that is there already was to be published again: it stays, with all of its key or
-- topic that was to be published behind it. false: another relay is at work.
DROP FUNCTION escrow.outbox_park(text, integer, bigint, text);
CREATE FUNCTION escrow.outbox_park(source text, lane integer, epoch bigint, id bigint, whole_topic boolean, error text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    parked record;
BEGIN
    IF NOT escrow.reader_owns(source, lane, epoch) THEN
        RETURN false;
    END IF;
    UPDATE escrow.outbox_parked AS p SET error = error WHERE p.source = source AND p.lane = lane AND p.id = id;
    IF NOT FOUND THEN
        INSERT INTO escrow.outbox_parked (source, lane, id, xid, created_at, topic, tag, keys, ordering_key, properties, body, error)
        SELECT source, lane, o.id, o.xid, o.created_at, o.topic, o.tag, o.keys, o.ordering_key, o.properties, o.body, error
          FROM escrow.outbox AS o WHERE o.id = id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'escrow.outbox_park: there is no row %', id;
        END IF;
    END IF;
    SELECT * INTO parked FROM escrow.outbox_parked AS p WHERE p.source = source AND p.lane = lane AND p.id = id;
    UPDATE escrow.outbox_parked AS p SET wanted = false, replay_no = NULL
     WHERE p.source = source AND p.lane = lane AND p.wanted AND (p.replay_no IS NULL OR p.replay_no >= parked.replay_no)
       AND (p.id = id OR (p.topic = parked.topic AND (whole_topic OR p.ordering_key = parked.ordering_key)));
    IF whole_topic OR parked.ordering_key IS NOT NULL THEN
        INSERT INTO escrow.outbox_hold AS h (source, lane, topic, ordering_key, error, try_at)
        VALUES (source, lane, parked.topic, CASE WHEN whole_topic THEN '' ELSE parked.ordering_key END, error,
                CASE WHEN whole_topic THEN clock_timestamp() + interval '5 seconds' END)
        ON CONFLICT ON CONSTRAINT outbox_hold_pkey DO UPDATE
           SET error = excluded.error, wanted = false, is_tried = false, tries = h.tries + 1,
               try_at = CASE WHEN whole_topic THEN
                   clock_timestamp() + least(interval '5 minutes', interval '5 seconds' * (1 << least(h.tries + 1, 6))) END;
    END IF;
    PERFORM escrow.make_durable();
    RETURN true;
END
$$;

-- The rows of a difference that are held, behind the last one that was published: parked, before the difference is read. A row
-- is to be published again by itself if that was said of everything that holds it. false: another relay is at work.
CREATE FUNCTION escrow.outbox_set_aside(source text, lane integer, epoch bigint, ended xid8[], old_xmax xid8, new_xmax xid8,
                                        seen pg_snapshot, last_order_id bigint, last_id bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT escrow.reader_owns(source, lane, epoch) THEN
        RETURN false;
    END IF;
    INSERT INTO escrow.outbox_parked (source, lane, id, xid, created_at, topic, tag, keys, ordering_key, properties, body, error, wanted)
    SELECT source, lane, w.id, w.xid, w.created_at, w.topic, w.tag, w.keys, w.ordering_key, w.properties, w.body, h.error, h.wanted
      FROM (SELECT o.*, max(o.id) OVER (PARTITION BY o.xid) AS order_id
              FROM (SELECT * FROM escrow.outbox AS x WHERE x.xid = ANY (ended)
                    UNION ALL
                    SELECT * FROM escrow.outbox AS x
                     WHERE x.xid >= old_xmax AND x.xid < new_xmax AND pg_visible_in_snapshot(x.xid, seen)) AS o) AS w
     CROSS JOIN LATERAL (SELECT min(k.error) AS error, bool_and(k.wanted) AS wanted FROM escrow.outbox_hold AS k
                          WHERE k.source = source AND k.lane = lane AND k.topic = w.topic
                            AND k.ordering_key IN ('', w.ordering_key)) AS h
     WHERE h.error IS NOT NULL AND (w.order_id, w.id) > (last_order_id, last_id)
     ORDER BY w.order_id, w.id
    ON CONFLICT DO NOTHING;
    RETURN true;
END
$$;

-- Parked rows that are to be published again get their numbers, behind `replayed`, which is done. A topic whose time has come
-- is tried with its first row. false: another relay is at work.
CREATE FUNCTION escrow.parked_count_off(source text, lane integer, epoch bigint, replayed bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    base bigint;
BEGIN
    IF NOT escrow.reader_owns(source, lane, epoch) THEN
        RETURN false;
    END IF;
    WITH due AS (
        UPDATE escrow.outbox_hold AS h SET is_tried = true
         WHERE h.source = source AND h.lane = lane AND NOT h.wanted AND NOT h.is_tried AND h.try_at <= clock_timestamp()
        RETURNING h.topic)
    UPDATE escrow.outbox_parked AS p SET wanted = true
      FROM due AS d, LATERAL (SELECT q.id FROM escrow.outbox_parked AS q
                               WHERE q.source = source AND q.lane = lane AND q.topic = d.topic
                                 AND (q.replay_no IS NULL OR q.replay_no > replayed)
                               ORDER BY q.number LIMIT 1) AS f
     WHERE p.source = source AND p.lane = lane AND p.id = f.id;
    SELECT greatest(replayed, max(p.replay_no)) INTO base FROM escrow.outbox_parked AS p
     WHERE p.source = source AND p.lane = lane AND p.wanted;
    UPDATE escrow.outbox_parked AS p SET replay_no = base + w.rank
      FROM (SELECT q.id, row_number() OVER (ORDER BY q.number) AS rank FROM escrow.outbox_parked AS q
             WHERE q.source = source AND q.lane = lane AND q.wanted AND q.replay_no IS NULL
             ORDER BY q.number LIMIT 65536) AS w
     WHERE p.source = source AND p.lane = lane AND p.id = w.id;
    RETURN true;
END
$$;

-- Everything up to `replayed` is stored by the broker, and everything that `passed` sees is passed: what needs no parking any more
-- goes, and what has no row left is held no longer. A topic that took the row it was tried with gets the rest.
-- false: another relay is at work.
CREATE FUNCTION escrow.parked_clear(source text, lane integer, epoch bigint, passed pg_snapshot, replayed bigint) RETURNS boolean
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
    RETURN true;
END
$$;

-- Publish these parked rows again, each in its old order: with it goes what is parked of its topic and key before it. In a
-- transaction of its own: the relay waits for it. Returns how many rows that are.
DROP FUNCTION escrow.parked_publish(bigint);
CREATE FUNCTION escrow.parked_replay(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_rows bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'escrow.parked_replay: needs READ COMMITTED';
    END IF;
    -- While this goes on nothing is set aside, and nothing given back.
    PERFORM 1 FROM escrow.reader AS r ORDER BY r.source, r.lane FOR UPDATE;
    WITH chosen AS (
        SELECT p.source, p.lane, p.id, p.topic, p.ordering_key, p.number
          FROM unnest(ids) AS i(id) JOIN escrow.outbox_parked AS p ON p.id = i.id),
    last AS (
        SELECT c.source, c.lane, c.topic, c.ordering_key, max(c.number) AS number
          FROM chosen AS c WHERE c.ordering_key IS NOT NULL GROUP BY 1, 2, 3, 4),
    every AS (
        SELECT c.source, c.lane, c.id FROM chosen AS c
        UNION
        SELECT p.source, p.lane, p.id
          FROM last AS l JOIN escrow.outbox_parked AS p
            ON p.source = l.source AND p.lane = l.lane AND p.topic = l.topic AND p.ordering_key = l.ordering_key
           AND p.number <= l.number)
    UPDATE escrow.outbox_parked AS p SET wanted = true
      FROM every AS e
     WHERE p.source = e.source AND p.lane = e.lane AND p.id = e.id AND NOT p.wanted;
    GET DIAGNOSTICS found_rows = ROW_COUNT;
    -- Everything of a key or topic: then also what is set aside for it until then.
    UPDATE escrow.outbox_hold AS h SET wanted = true, is_tried = false
     WHERE NOT h.wanted
       AND NOT EXISTS (SELECT 1 FROM escrow.outbox_parked AS p
                        WHERE p.source = h.source AND p.lane = h.lane AND p.topic = h.topic
                          AND (h.ordering_key = '' OR p.ordering_key = h.ordering_key) AND NOT p.wanted);
    PERFORM pg_notify('escrow_outbox', '');
    RETURN found_rows;
END
$$;

-- These parked rows will never be published. Only what the reader has passed, and nobody wants published. Returns how many.
CREATE FUNCTION escrow.parked_drop(ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_rows bigint;
BEGIN
    PERFORM 1 FROM escrow.reader AS r ORDER BY r.source, r.lane FOR UPDATE;
    DELETE FROM escrow.outbox_parked AS p
     WHERE p.id = ANY (ids) AND NOT p.wanted
       AND (p.xid IS NULL OR NOT EXISTS (SELECT 1 FROM escrow.reader AS r
                                          WHERE r.source = p.source AND r.lane = p.lane
                                            AND NOT coalesce(pg_visible_in_snapshot(p.xid, r.passed), false)));
    GET DIAGNOSTICS found_rows = ROW_COUNT;
    RETURN found_rows;
END
$$;

-- A reader that will never come back. Its rows no longer hold partitions; what it parked stays, and holds nothing.
CREATE OR REPLACE FUNCTION escrow.reader_drop(source text, lane integer DEFAULT 0) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    DELETE FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM escrow.outbox_hold AS h WHERE h.source = source AND h.lane = lane;
    UPDATE escrow.outbox_parked AS p SET wanted = false, replay_no = NULL
     WHERE p.source = source AND p.lane = lane AND p.wanted;
    RETURN true;
END
$$;

-- As before; and parked rows are counted off anew, for a position that knows of none. A person has said that this may publish
-- again what was published and not reported.
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
    SELECT * INTO here FROM escrow.database_identity();
    UPDATE escrow.reader AS r SET epoch = 0 WHERE r.source = source AND r.lane = lane; -- perhaps another broker, which begins at 1
    UPDATE escrow.outbox_parked AS p SET replay_no = NULL
     WHERE p.source = source AND p.lane = lane AND p.replay_no IS NOT NULL;
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
       SET passed = start, system_identifier = here.system_identifier, timeline = here.timeline,
           database_oid = here.database_oid, reported_at = clock_timestamp();
    RETURN start;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
