-- A reader that a person has to decide about: it has ended, and will again, until then.

ALTER TABLE escrow.reader
    ADD COLUMN is_refused boolean NOT NULL DEFAULT false; -- with `error`: it does not try again by itself

-- A reader makes itself known, and says what went wrong since it last was here. NULL: it works.
CREATE OR REPLACE FUNCTION escrow.reader_says(source text, lane integer, error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM escrow.reader_register(source, lane);
    UPDATE escrow.reader AS r
       SET error = error,
           error_since = CASE WHEN error IS NOT NULL THEN coalesce(r.error_since, clock_timestamp()) END,
           error_count = CASE WHEN error IS NOT NULL THEN r.error_count + 1 ELSE 0 END,
           is_refused = false
     WHERE r.source = source AND r.lane = lane AND (error IS NOT NULL OR r.error IS NOT NULL);
END
$$;

-- A reader says why it ends: it must not go on before a person has said what is right.
CREATE FUNCTION escrow.reader_refuses(source text, lane integer, error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM escrow.reader_says(source, lane, error);
    UPDATE escrow.reader AS r SET is_refused = true WHERE r.source = source AND r.lane = lane;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA escrow FROM PUBLIC;
