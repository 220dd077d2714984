-- The outbox: messages that wait for their transaction, and the functions around it. Contract: sql/README.md.
-- Applied in one transaction by `escrow-relay migrate`; never edited afterwards, only followed by a higher number.

CREATE SCHEMA IF NOT EXISTS escrow;

CREATE TABLE escrow.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Which database this is. A relay's position is good for exactly one; a restored or cloned database has another.
CREATE FUNCTION escrow.database_identity(OUT system_identifier text, OUT timeline integer, OUT database_oid oid,
                                         OUT database_name text)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() AS s),
           ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::integer,
           d.oid, d.datname::text
      FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
$$;

-- One sequence for all partitions. CACHE 1 on purpose: a row published after another one has a higher id, whatever
-- session it was, and the order of messages with one ordering key rests on that.
CREATE SEQUENCE escrow.outbox_id AS bigint CACHE 1;

-- The partition that is being filled. A constant to the planner; escrow.outbox_rotate() replaces the function. A
-- transaction that still sees the old one does no harm: readers look at all partitions.
CREATE FUNCTION escrow.outbox_slot() RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 0::smallint';

-- Insert-only. Nothing is updated or deleted per message: what every reader has passed goes with TRUNCATE.
CREATE TABLE escrow.outbox (
    slot         smallint    NOT NULL DEFAULT escrow.outbox_slot(),
    id           bigint      NOT NULL DEFAULT nextval('escrow.outbox_id'),
    xid          xid8        NOT NULL DEFAULT pg_current_xact_id(), -- top-level: xmin may be a subtransaction's
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    deliver_at   timestamptz,   -- reserved
    topic        text        NOT NULL,
    tag          text,
    keys         text,
    ordering_key text,
    properties   text[],        -- name, value, name, value, ...
    milestone    pg_snapshot,   -- in one row of 4096: lets a reader take a long backlog in steps
    body         bytea       NOT NULL
) PARTITION BY LIST (slot);
CREATE TABLE escrow.outbox_0 PARTITION OF escrow.outbox FOR VALUES IN (0);
CREATE TABLE escrow.outbox_1 PARTITION OF escrow.outbox FOR VALUES IN (1);
CREATE TABLE escrow.outbox_2 PARTITION OF escrow.outbox FOR VALUES IN (2);
CREATE TABLE escrow.outbox_3 PARTITION OF escrow.outbox FOR VALUES IN (3);
CREATE INDEX outbox_xid ON escrow.outbox (xid);
CREATE INDEX outbox_milestone ON escrow.outbox (xid) WHERE milestone IS NOT NULL;

CREATE TABLE escrow.outbox_state (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    slot          smallint NOT NULL,
    current_since timestamptz NOT NULL,
    rotations     bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO escrow.outbox_state (slot, current_since) VALUES (0, clock_timestamp());

-- Who reads the outbox and what they have passed, as far as the database was told (the truth is with the broker).
CREATE TABLE escrow.reader (
    source     text    NOT NULL,
    lane       integer NOT NULL,
    system_identifier text,
    timeline   integer,
    database_oid oid,
    passed     pg_snapshot, -- NULL: nothing yet
    rows_acked bigint NOT NULL DEFAULT 0,
    reports    bigint NOT NULL DEFAULT 0, -- goes into positions: a database that has fewer is a restored one
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz,
    PRIMARY KEY (source, lane)
) WITH (fillfactor = 50);

-- Rows that a reader could not publish: the broker refuses what is in them.
CREATE TABLE escrow.outbox_parked (
    source       text        NOT NULL,
    lane         integer     NOT NULL,
    id           bigint      NOT NULL,
    created_at   timestamptz NOT NULL,
    topic        text        NOT NULL,
    tag          text,
    keys         text,
    ordering_key text,
    properties   text[],
    body         bytea       NOT NULL,
    error        text        NOT NULL,
    parked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, lane, id)
);

-- Why a message was refused, in one place, so that the test in publish() stays one expression.
CREATE FUNCTION escrow.publish_refuse(topic text, body bytea, tag text, keys text, ordering_key text, pairs text[])
RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    what text;
BEGIN
    what := CASE
        WHEN topic IS NULL THEN 'the topic is NULL'
        WHEN topic = '' THEN 'the topic is empty'
        WHEN topic ~ '[^%|a-zA-Z0-9_-]' THEN
            format('topic %L: only letters, digits and %% | _ - are allowed', left(topic, 200))
        WHEN octet_length(topic) > 127 THEN 'the topic is longer than 127 characters'
        WHEN starts_with(topic, '%') OR starts_with(topic, 'rmq_sys_') OR starts_with(topic, 'RMQ_SYS_') OR topic IN
            ('TBW102', 'TRANS_CHECK_MAX_TIME_TOPIC', 'SCHEDULE_TOPIC_XXXX', 'SELF_TEST_TOPIC', 'OFFSET_MOVED_EVENT') THEN
            format('topic %L is reserved for the broker', topic)
        WHEN body IS NULL THEN 'the body is NULL'
        WHEN octet_length(body) > 4194304 THEN
            format('the body has %s bytes; at most 4194304 are allowed', octet_length(body))
        WHEN tag ~ '[[:cntrl:]|]' THEN 'the tag contains "|" or a control character'
        WHEN keys ~ '[[:cntrl:]]' THEN 'the keys contain a control character'
        WHEN ordering_key ~ '[[:cntrl:]]' THEN 'the ordering key contains a control character'
        ELSE 'tag, keys, ordering key and properties together are longer than 30000 bytes'
    END;
    RAISE EXCEPTION 'escrow.publish: %', what USING ERRCODE = 'invalid_parameter_value';
END
$$;

-- How long these are when they go out, where the database is not in UTF-8. Fails for what cannot go out.
CREATE FUNCTION escrow.utf8_bytes(tag text, keys text, ordering_key text, pairs text[]) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN octet_length(convert_to(concat(tag, keys, ordering_key, array_to_string(pairs, '  ')), 'UTF8'));
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RAISE EXCEPTION 'escrow.publish: tag, keys, ordering key or properties cannot be written in UTF-8: %', SQLERRM
        USING ERRCODE = 'invalid_parameter_value';
END
$$;

-- {"name": value, ...} as name, value, ...; values are strings, numbers or booleans.
CREATE FUNCTION escrow.property_pairs(properties jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pairs text[] := '{}';
    item record;
BEGIN
    IF jsonb_typeof(properties) <> 'object' THEN
        RAISE EXCEPTION 'escrow.publish: properties must be a JSON object, not %', jsonb_typeof(properties)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR item IN SELECT e.key, e.value, e.value #>> '{}' AS text FROM jsonb_each(properties) AS e LOOP
        IF jsonb_typeof(item.value) NOT IN ('string', 'number', 'boolean') OR item.text = '' THEN
            RAISE EXCEPTION 'escrow.publish: property "%" must be a non-empty string, a number or a boolean', item.key
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF item.key !~ '^[^[:cntrl:]]+$' OR item.text ~ E'[\\x01\\x02]' THEN
            RAISE EXCEPTION 'escrow.publish: property "%" has a control character in its name or value, or no name', item.key
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF item.key ~ '^(__.*|TAGS|KEYS|WAIT|DELAY|TRAN_MSG|PGROUP|REAL_TOPIC|REAL_QID|RETRY_TOPIC|UNIQ_KEY|ORIGIN_MESSAGE_ID|RECONSUME_TIME|MAX_RECONSUME_TIMES|MIN_OFFSET|MAX_OFFSET|MSG_REGION|TRACE_ON|CLUSTER|INSTANCE_ID|CONSUME_START_TIME|TRANSACTION_.*|TRAN_PREPARED_.*|CHECK_IMMUNITY_.*|TIMER_.*|DLQ_.*|POP_.*|1ST_POP_TIME|INNER_.*|ESCROW_.*)$' THEN
            RAISE EXCEPTION 'escrow.publish: the property name "%" is reserved', item.key
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        pairs := pairs || item.key || item.text;
    END LOOP;
    RETURN nullif(pairs, '{}');
END
$$;

-- Publish a message if, and only if, the current transaction commits. Returns the id of the row.
--
-- Every service pays for each line of this in each of its transactions. Measured, per call: one more expression or statement
-- 1 to 2 us, routing through the partitioned table 2 us, a bounded or look-ahead regular expression 10 to 80 us.
--
-- No backslash in a plain literal anywhere: it would mean something else to a caller with standard_conforming_strings = off.
CREATE FUNCTION escrow.publish(topic text, body bytea, tag text DEFAULT NULL, keys text DEFAULT NULL,
                               ordering_key text DEFAULT NULL, properties jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    new_id bigint;
    pairs text[];
    slot smallint;
BEGIN
    IF properties IS NOT NULL THEN
        pairs := escrow.property_pairs(properties);
    END IF;
    IF (topic !~ '[^%|a-zA-Z0-9_-]' AND NOT starts_with(topic, '%') AND octet_length(topic) BETWEEN 1 AND 127
        AND NOT starts_with(topic, 'rmq_sys_') AND NOT starts_with(topic, 'RMQ_SYS_')
        AND topic NOT IN ('TBW102', 'TRANS_CHECK_MAX_TIME_TOPIC', 'SCHEDULE_TOPIC_XXXX', 'SELF_TEST_TOPIC', 'OFFSET_MOVED_EVENT')
        AND octet_length(body) <= 4194304) IS NOT TRUE
       OR tag ~ '[[:cntrl:]|]' OR keys ~ '[[:cntrl:]]' OR ordering_key ~ '[[:cntrl:]]'
       OR (COALESCE(tag, keys, ordering_key, pairs[1]) IS NOT NULL
           AND CASE WHEN getdatabaseencoding() <> 'UTF8' THEN escrow.utf8_bytes(tag, keys, ordering_key, pairs) ELSE
               COALESCE(octet_length(tag), 0) + COALESCE(octet_length(keys), 0) + COALESCE(octet_length(ordering_key), 0)
               + COALESCE(octet_length(array_to_string(pairs, '  ')), 0) END > 30000)
    THEN
        PERFORM escrow.publish_refuse(topic, body, tag, keys, ordering_key, pairs);
    END IF;
    -- Wake the relay, unless it is awake (it holds the lock) or somebody else is about to wake it (he holds it). NOTIFY at
    -- every commit would make all commits of the cluster wait for each other.
    IF pg_try_advisory_xact_lock(1702060914, 1) THEN
        PERFORM pg_notify('escrow_outbox', '');
    END IF;
    new_id := nextval('escrow.outbox_id');
    slot := escrow.outbox_slot();
    IF slot = 0 THEN
        INSERT INTO escrow.outbox_0 (slot, id, topic, tag, keys, ordering_key, properties, milestone, body)
        VALUES (0, new_id, topic, nullif(tag, ''), nullif(keys, ''), nullif(ordering_key, ''), pairs,
                CASE WHEN new_id % 4096 = 0 THEN pg_current_snapshot() END, body);
    ELSIF slot = 1 THEN
        INSERT INTO escrow.outbox_1 (slot, id, topic, tag, keys, ordering_key, properties, milestone, body)
        VALUES (1, new_id, topic, nullif(tag, ''), nullif(keys, ''), nullif(ordering_key, ''), pairs,
                CASE WHEN new_id % 4096 = 0 THEN pg_current_snapshot() END, body);
    ELSIF slot = 2 THEN
        INSERT INTO escrow.outbox_2 (slot, id, topic, tag, keys, ordering_key, properties, milestone, body)
        VALUES (2, new_id, topic, nullif(tag, ''), nullif(keys, ''), nullif(ordering_key, ''), pairs,
                CASE WHEN new_id % 4096 = 0 THEN pg_current_snapshot() END, body);
    ELSE
        INSERT INTO escrow.outbox_3 (slot, id, topic, tag, keys, ordering_key, properties, milestone, body)
        VALUES (3, new_id, topic, nullif(tag, ''), nullif(keys, ''), nullif(ordering_key, ''), pairs,
                CASE WHEN new_id % 4096 = 0 THEN pg_current_snapshot() END, body);
    END IF;
    RETURN new_id;
END
$$;

-- The same with a text body, in UTF-8.
CREATE FUNCTION escrow.publish_text(topic text, body text, tag text DEFAULT NULL, keys text DEFAULT NULL,
                                    ordering_key text DEFAULT NULL, properties jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT escrow.publish(topic, pg_catalog.convert_to(body, 'UTF8'), tag, keys, ordering_key, properties) $$;

-- The same with a JSON body.
CREATE FUNCTION escrow.publish_json(topic text, body jsonb, tag text DEFAULT NULL, keys text DEFAULT NULL,
                                    ordering_key text DEFAULT NULL, properties jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT escrow.publish(topic, pg_catalog.convert_to(body::text, 'UTF8'), tag, keys, ordering_key, properties) $$;

-- A reader makes itself known: from now on nothing is truncated that it has not passed.
CREATE FUNCTION escrow.reader_register(source text, lane integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT 1 FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane) THEN
        INSERT INTO escrow.reader (source, lane) VALUES (source, lane) ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- A reader says what it has passed: everything that `passed` sees is stored by its broker. Returns how many reports it has made.
CREATE FUNCTION escrow.reader_report(source text, lane integer, passed pg_snapshot, rows_acked bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    made bigint;
BEGIN
    INSERT INTO escrow.reader AS r (source, lane, system_identifier, timeline, database_oid, passed, rows_acked, reports, reported_at)
    SELECT source, lane, i.system_identifier, i.timeline, i.database_oid, passed, rows_acked, 1, clock_timestamp()
      FROM escrow.database_identity() AS i
    ON CONFLICT ON CONSTRAINT reader_pkey DO UPDATE
       SET system_identifier = excluded.system_identifier, timeline = excluded.timeline,
           database_oid = excluded.database_oid, passed = excluded.passed,
           rows_acked = r.rows_acked + excluded.rows_acked, reports = r.reports + 1, reported_at = excluded.reported_at
    RETURNING r.reports INTO made;
    RETURN made;
END
$$;

-- A reader that will never come back. Its rows no longer hold partitions.
CREATE FUNCTION escrow.reader_drop(source text, lane integer DEFAULT 0) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    DELETE FROM escrow.reader AS r WHERE r.source = source AND r.lane = lane;
    RETURN FOUND;
END
$$;

-- The rows of a small difference between two snapshots, with a plan that is made once per session: planning would cost more than
-- reading. ended: ids that ran in the old snapshot and have ended in the new one.
CREATE FUNCTION escrow.outbox_read(ended xid8[], old_xmax xid8, new_xmax xid8, seen pg_snapshot)
RETURNS TABLE (xid xid8, id bigint, created_at timestamptz, topic text, tag text, keys text, ordering_key text,
               properties text[], body bytea)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT o.xid, o.id, o.created_at, o.topic, o.tag, o.keys, o.ordering_key, o.properties, o.body
      FROM escrow.outbox AS o WHERE o.xid = ANY (ended)
    UNION ALL
    SELECT o.xid, o.id, o.created_at, o.topic, o.tag, o.keys, o.ordering_key, o.properties, o.body
      FROM escrow.outbox AS o
     WHERE o.xid >= old_xmax AND o.xid < new_xmax AND pg_catalog.pg_visible_in_snapshot(o.xid, seen);
END
$$;

-- A row that the broker refuses is copied here, durably, before the reader passes it.
CREATE FUNCTION escrow.outbox_park(source text, lane integer, id bigint, error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    INSERT INTO escrow.outbox_parked (source, lane, id, created_at, topic, tag, keys, ordering_key, properties, body, error)
    SELECT source, lane, o.id, o.created_at, o.topic, o.tag, o.keys, o.ordering_key, o.properties, o.body, error
      FROM escrow.outbox AS o WHERE o.id = id
    ON CONFLICT DO NOTHING;
    IF NOT FOUND AND NOT EXISTS (SELECT 1 FROM escrow.outbox_parked AS p WHERE p.source = source AND p.lane = lane AND p.id = id) THEN
        RAISE EXCEPTION 'escrow.outbox_park: there is no row %', id;
    END IF;
    PERFORM escrow.make_durable();
END
$$;

-- Publish a parked row again, in this transaction, under a new id. Returns that.
CREATE FUNCTION escrow.parked_publish(id bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    new_id bigint;
BEGIN
    WITH p AS (DELETE FROM escrow.outbox_parked AS q WHERE q.id = id RETURNING *)
    INSERT INTO escrow.outbox (topic, tag, keys, ordering_key, properties, body)
    SELECT p.topic, p.tag, p.keys, p.ordering_key, p.properties, p.body FROM p LIMIT 1
    RETURNING outbox.id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'escrow.parked_publish: no row % is parked', id USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_notify('escrow_outbox', '');
    RETURN new_id;
END
$$;

-- Does the partition hold a row that some reader has not passed?
CREATE FUNCTION escrow.outbox_is_needed(slot smallint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    answer boolean;
    reader record;
BEGIN
    FOR reader IN SELECT coalesce(r.passed, '1:1:'::pg_snapshot) AS passed FROM escrow.reader AS r LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM escrow.outbox_%s AS o WHERE o.xid >= pg_snapshot_xmin($1) '
                       'AND NOT pg_visible_in_snapshot(o.xid, $1))', slot)
           INTO answer USING reader.passed;
        IF answer THEN
            RETURN true;
        END IF;
    END LOOP;
    -- Nobody reads: keep everything for whoever comes first.
    RETURN NOT EXISTS (SELECT 1 FROM escrow.reader);
END
$$;

-- Empty the partitions that every reader has passed, and go on to the next one when the current one is big or old enough.
-- Never waits for a lock: what is in use is left for the next time.
CREATE FUNCTION escrow.outbox_rotate(switch_bytes bigint DEFAULT 268435456, switch_after interval DEFAULT '5 minutes',
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
            -- Alone now: no transaction can hold rows here that are not visible yet. Look again.
            IF NOT escrow.outbox_is_needed(slot::smallint) THEN
                EXECUTE format('TRUNCATE TABLE escrow.outbox_%s', slot);
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

-- This database takes over from the one that the readers' positions are of (a restored, promoted, upgraded or copied one).
-- keep_rows: rows that are not known to be passed stay to be published, under new transaction ids (the old ones may be
-- used again, or be of another cluster). Otherwise everything that is here now counts as passed.
-- Returns what is passed now. Doing it again changes nothing.
CREATE FUNCTION escrow.outbox_adopt(source text, lane integer, keep_rows boolean) RETURNS pg_snapshot
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
       SET passed = start, system_identifier = here.system_identifier, timeline = here.timeline,
           database_oid = here.database_oid, reported_at = clock_timestamp();
    RETURN start;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
