-- What a reader says of itself: why it cannot publish, and which row it set aside last.

ALTER TABLE escrow.reader
    ADD COLUMN parked_id   bigint,      -- passed without being published, also by a reader whose position is still before it
    ADD COLUMN error       text,        -- NULL: it works
    ADD COLUMN error_since timestamptz,
    ADD COLUMN error_count bigint NOT NULL DEFAULT 0;

UPDATE escrow.reader AS r
   SET parked_id = (SELECT p.id FROM escrow.outbox_parked AS p WHERE p.source = r.source AND p.lane = r.lane
                     ORDER BY p.parked_at DESC LIMIT 1);

-- A reader makes itself known, and says what went wrong since it last was here. NULL: nothing.
CREATE FUNCTION escrow.reader_says(source text, lane integer, error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM escrow.reader_register(source, lane);
    UPDATE escrow.reader AS r
       SET error = error,
           error_since = CASE WHEN error IS NOT NULL THEN coalesce(r.error_since, clock_timestamp()) END,
           error_count = CASE WHEN error IS NOT NULL THEN r.error_count + 1 ELSE 0 END
     WHERE r.source = source AND r.lane = lane AND (error IS NOT NULL OR r.error IS NOT NULL);
END
$$;

-- A row that the broker refuses is copied here, durably, before the reader passes it; and it is noted that it is passed, so
-- that a reader that begins before it does not publish it after all.
CREATE OR REPLACE FUNCTION escrow.outbox_park(source text, lane integer, id bigint, error text) RETURNS void
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
    UPDATE escrow.reader AS r SET parked_id = id WHERE r.source = source AND r.lane = lane;
    PERFORM escrow.make_durable();
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
