-- Markers of local transactions: how the database itself answers "what became of the transaction?". Contract: sql/README.md.

-- kind C: the local transaction wrote it and so it commits with it. kind R: a tombstone, written by a check-back that found
-- nothing; the local transaction, should it still come, fails on it.
CREATE TABLE escrow.transaction_marker (
    txn_id     text PRIMARY KEY,
    kind       "char" NOT NULL CHECK (kind IN ('C', 'R')),
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    half_offset bigint, -- where the half is in that broker's log; NULL: the client did not say
    broker     text -- identity ("name#id of its store") of the one that has the half, and may ask; NULL: the client did not say
);

-- Brokers that have told the relay their horizon. One that was there once may hold halves until a person says otherwise.
CREATE TABLE escrow.broker (
    name        text PRIMARY KEY,
    horizon     timestamptz NOT NULL, -- by this database's clock, less what the relay keeps for clocks
    half_offset bigint NOT NULL, -- of its oldest undecided half, or the end of its log
    answered_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Identities that this database had before it was restored, promoted or copied, entered by a person.
CREATE TABLE escrow.lineage (
    system_identifier text    NOT NULL,
    timeline          integer NOT NULL,
    database_name     text    NOT NULL,
    added_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (system_identifier, timeline, database_name)
);

-- Which database this is, system identifier/timeline/name, left in the setting escrow.identity of the session: finding it out
-- reads the control file, too slow for every transaction. It cannot change under a session: a standby refuses to say it.
CREATE FUNCTION escrow.session_identity() RETURNS text
LANGUAGE sql VOLATILE
AS $$
    SELECT pg_catalog.set_config('escrow.identity', pg_catalog.concat_ws('/', i.system_identifier, i.timeline, i.database_name), false)
      FROM escrow.database_identity() AS i
$$;

-- For the half messages of the current transaction: its id and its database, transaction id/system identifier/timeline/name.
CREATE FUNCTION escrow.transaction_begin() RETURNS text
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    identity text := pg_catalog.current_setting('escrow.identity', true);
BEGIN
    IF identity IS NULL OR identity OPERATOR(pg_catalog.=) '' THEN
        identity := escrow.session_identity();
    END IF;
    RETURN pg_catalog.concat_ws('/', pg_catalog.pg_current_xact_id(), identity);
END
$$;

-- Why transaction_mark could not insert: an error, or this transaction's id if it had marked before.
CREATE FUNCTION escrow.transaction_marked_before(txn_id text) RETURNS xid8
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    found_marker escrow.transaction_marker;
BEGIN
    SELECT * INTO found_marker FROM escrow.transaction_marker AS m WHERE m.txn_id = txn_id;
    IF found_marker.kind = 'R' THEN
        RAISE EXCEPTION 'escrow: transaction % was rolled back by a check-back at %; it came too late', txn_id, found_marker.created_at
            USING ERRCODE = 'unique_violation',
                  HINT = 'Nobody could say what became of it, so its message was discarded. Start again with a new id.';
    ELSIF found_marker.xid IS DISTINCT FROM pg_current_xact_id() THEN
        RAISE EXCEPTION 'escrow: transaction id % was used before', txn_id
            USING ERRCODE = 'unique_violation', HINT = 'Every local transaction needs an id of its own.';
    END IF;
    RETURN found_marker.xid;
END
$$;

-- The local transaction says which message transaction it decides. Returns its transaction id, for the half message. Part of
-- every local transaction, so it does without what costs time (SET, queries where an expression does); every name is qualified.
-- `broker` says which broker has the half, `half_offset` where in its log: when that one has nothing older undecided, the
-- marker can go.
CREATE FUNCTION escrow.transaction_mark(txn_id text, broker text DEFAULT NULL, half_offset bigint DEFAULT NULL) RETURNS xid8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
#variable_conflict use_variable
BEGIN
    IF txn_id IS NULL OR pg_catalog.length(txn_id) OPERATOR(pg_catalog.<) 1 OR pg_catalog.length(txn_id) OPERATOR(pg_catalog.>) 128
       OR pg_catalog.octet_length(broker) OPERATOR(pg_catalog.>) 255 THEN
        RAISE EXCEPTION 'escrow.transaction_mark: a transaction id has 1 to 128 characters, a broker''s name at most 255'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Held until this transaction ends: a check-back that cannot get it knows, without waiting, that we are running.
    IF NOT pg_catalog.pg_try_advisory_xact_lock(1702060915, pg_catalog.hashtext(txn_id)) THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(1702060915, pg_catalog.hashtext(txn_id));
    END IF;
    INSERT INTO escrow.transaction_marker AS m (txn_id, kind, broker, half_offset) VALUES (txn_id, 'C', broker, half_offset)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN escrow.transaction_marked_before(txn_id);
    END IF;
    -- Its message may be delivered as soon as this transaction has committed: the commit must not be lost in a crash then.
    IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) ANY ('{off,local,remote_write}'::pg_catalog.text[]) THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    RETURN pg_catalog.pg_current_xact_id();
END
$$;

-- Make durable, with the end of the current transaction, whatever is visible now: a commit of synchronous_commit = off may
-- be visible before it is on disk, and a crash would take it back. With synchronous standbys it is durable there too.
CREATE FUNCTION escrow.make_durable() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn() OR current_setting('synchronous_standby_names') <> '' THEN
        PERFORM pg_logical_emit_message(true, 'escrow', '');
    END IF;
END
$$;

-- What became of a transaction: 'commit', 'rollback', 'in_progress' or 'unknown'. Never waits for the transaction. The answer
-- counts once the statement has ended without error: only then is it durable. `xid` may be NULL (not known). The other three say
-- which database the transaction was in; if they are NULL or another one, only a marker is believed, and no tombstone is written:
-- the transaction may be alive elsewhere.
CREATE FUNCTION escrow.transaction_check(txn_id text, xid xid8, system_identifier text, timeline integer, database_name text)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms'
AS $$
#variable_conflict use_variable
DECLARE
    marker_kind "char";
    status text;
    here record;
    is_here boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'escrow.transaction_check: needs READ COMMITTED';
    END IF;
    IF txn_id IS NULL OR length(txn_id) NOT BETWEEN 1 AND 128 THEN
        RAISE EXCEPTION 'escrow.transaction_check: a transaction id has 1 to 128 characters'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT * INTO here FROM escrow.database_identity();
    is_here := coalesce(system_identifier = here.system_identifier AND timeline = here.timeline
                        AND database_name = here.database_name, false);
    IF NOT is_here THEN
        xid := NULL; -- of another history: the same number may be another transaction here
        IF NOT EXISTS (SELECT 1 FROM escrow.lineage AS l WHERE l.system_identifier = system_identifier
                                                           AND l.timeline = timeline AND l.database_name = database_name) THEN
            SELECT m.kind INTO marker_kind FROM escrow.transaction_marker AS m WHERE m.txn_id = txn_id;
            IF marker_kind = 'C' AND system_identifier IS NULL THEN
                PERFORM escrow.make_durable();
                RETURN 'commit';
            END IF;
            RETURN 'unknown';
        END IF;
    END IF;
    -- The row decides. A transaction id alone never does: one that was lost in a crash is given out again.
    SELECT m.kind INTO marker_kind FROM escrow.transaction_marker AS m WHERE m.txn_id = txn_id;
    IF marker_kind IS NULL AND xid IS NOT NULL THEN
        BEGIN
            status := pg_xact_status(xid);
        EXCEPTION WHEN invalid_parameter_value THEN
            status := NULL; -- "in the future": lost in a crash and not given out again yet
        END;
        IF status = 'in progress' THEN
            RETURN 'in_progress';
        END IF;
        -- It may have ended between the first look and now.
        SELECT m.kind INTO marker_kind FROM escrow.transaction_marker AS m WHERE m.txn_id = txn_id;
    END IF;
    IF marker_kind IS NULL THEN
        -- Somebody who has marked holds this lock until he ends.
        IF NOT pg_try_advisory_xact_lock(1702060915, hashtext(txn_id)) THEN
            RETURN 'in_progress';
        END IF;
        INSERT INTO escrow.transaction_marker AS m (txn_id, kind) VALUES (txn_id, 'R') ON CONFLICT DO NOTHING;
        IF FOUND THEN
            marker_kind := 'R';
        ELSE
            SELECT m.kind INTO marker_kind FROM escrow.transaction_marker AS m WHERE m.txn_id = txn_id;
        END IF;
    END IF;
    PERFORM escrow.make_durable();
    RETURN CASE marker_kind WHEN 'C' THEN 'commit' WHEN 'R' THEN 'rollback' ELSE 'in_progress' END;
EXCEPTION WHEN lock_not_available THEN
    RETURN 'in_progress';
END
$$;

-- Check-backs may name this database by an identity that it had before it was restored, promoted or renamed.
CREATE FUNCTION escrow.lineage_add(system_identifier text, timeline integer, database_name text) RETURNS void
LANGUAGE sql VOLATILE
AS $$ INSERT INTO escrow.lineage (system_identifier, timeline, database_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING $$;

-- Forget markers of transactions that are decided, at most max_rows, and none younger than keep. brokers[i] has answered that
-- its oldest undecided half is at half_offsets[i] of its log (its end, when there is none), and by its clock ages_ms[i]
-- milliseconds old. The markers that name it and an offset go up to there: offsets only grow, whatever clocks do. Those without
-- an offset go by age. Those that name another broker stay: it may be down, and ask when it is back. Those that name none go by
-- the highest age, but only when is_complete says that every broker which is known to exist has answered, and every one that
-- ever answered is among them. Tombstones have their own time: they must outlive the slowest local transaction.
CREATE FUNCTION escrow.transaction_clean(brokers text[], ages_ms bigint[], half_offsets bigint[], is_complete boolean, keep interval,
                                         tombstones_before timestamptz, max_rows integer DEFAULT 100000)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unnamed_before timestamptz;
    keep_from timestamptz := clock_timestamp() - keep;
    gone bigint;
BEGIN
    INSERT INTO escrow.broker AS b (name, horizon, half_offset, answered_at)
    SELECT a.name, keep_from - max(a.ms) * interval '1 millisecond', min(a.half_offset), clock_timestamp()
      FROM unnest(brokers, ages_ms, half_offsets) AS a (name, ms, half_offset) GROUP BY a.name
    ON CONFLICT (name) DO UPDATE SET horizon = excluded.horizon, half_offset = excluded.half_offset, answered_at = excluded.answered_at;
    IF is_complete AND NOT EXISTS (SELECT 1 FROM escrow.broker AS b WHERE b.name <> ALL (brokers)) THEN
        SELECT min(b.horizon) INTO unnamed_before FROM escrow.broker AS b;
    END IF;
    DELETE FROM escrow.transaction_marker AS m
     WHERE m.ctid = ANY (ARRAY(
        SELECT c.ctid
          FROM escrow.transaction_marker AS c LEFT JOIN escrow.broker AS b ON b.name = c.broker AND b.name = ANY (brokers)
         WHERE (c.kind = 'C' AND CASE WHEN c.broker IS NULL THEN c.created_at < unnamed_before
                                      WHEN c.half_offset IS NULL THEN c.created_at < b.horizon
                                      ELSE c.half_offset < b.half_offset AND c.created_at < keep_from END)
            OR (c.kind = 'R' AND c.created_at < tombstones_before)
         LIMIT max_rows));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

-- A broker that will not come back, and whose half messages are gone with it: its markers need not wait for it. Returns how many
-- there were. If it does come back, its undecided halves are rolled back, whatever became of their transactions.
CREATE FUNCTION escrow.broker_drop(broker text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    gone bigint;
BEGIN
    DELETE FROM escrow.broker AS b WHERE b.name = broker;
    DELETE FROM escrow.transaction_marker AS m WHERE m.broker = broker AND m.kind = 'C';
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
