-- The inbox: a consumer's database remembers what it has processed, in the transaction that processed it. Contract: sql/README.md.

-- By position: one row per consumer and source, whatever the number of messages.
CREATE TABLE escrow.inbox_position (
    consumer   text   NOT NULL,
    source     text   NOT NULL,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (consumer, source)
) WITH (fillfactor = 50);

-- By id: one row per message, until escrow.inbox_clean().
CREATE TABLE escrow.inbox_message (
    consumer    text NOT NULL,
    source      text NOT NULL,
    message_id  text NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, source, message_id)
);

-- true: first time, process it in this transaction. false: processed before. For messages that the consumer takes in the
-- order of their positions, one at a time per source: whatever is not above the last position counts as processed.
CREATE FUNCTION escrow.inbox_accept(consumer text, source text, at_position bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF consumer IS NULL OR source IS NULL OR at_position IS NULL THEN
        RAISE EXCEPTION 'escrow.inbox_accept: consumer, source and position must not be NULL'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    INSERT INTO escrow.inbox_position AS i (consumer, source, position, updated_at)
    VALUES (consumer, source, at_position, clock_timestamp())
    ON CONFLICT ON CONSTRAINT inbox_position_pkey DO UPDATE
       SET position = excluded.position, updated_at = excluded.updated_at
     WHERE i.position < excluded.position;
    RETURN FOUND;
END
$$;

-- The same by message id, in any order. A second transaction with the same id waits for the first.
CREATE FUNCTION escrow.inbox_accept(consumer text, source text, message_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF consumer IS NULL OR source IS NULL OR message_id IS NULL OR message_id = '' THEN
        RAISE EXCEPTION 'escrow.inbox_accept: consumer, source and message id must not be NULL or empty'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    INSERT INTO escrow.inbox_message (consumer, source, message_id) VALUES (consumer, source, message_id)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Forget ids that cannot come again, oldest first, at most max_rows.
CREATE FUNCTION escrow.inbox_clean(before timestamptz, max_rows integer DEFAULT 100000) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM escrow.inbox_message AS m
     WHERE m.ctid = ANY (ARRAY(SELECT c.ctid FROM escrow.inbox_message AS c WHERE c.accepted_at < before LIMIT max_rows));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
