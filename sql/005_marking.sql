-- Markers at a lower price: a view that a prepared INSERT writes to, for clients whose half messages carry their transaction's
-- id. Contract: sql/README.md.

-- A constraint of a table is read from its text by every statement that inserts. Nobody but the functions of this schema can
-- say a kind: no role has a right to the table, and the view has no such column.
ALTER TABLE escrow.transaction_marker DROP CONSTRAINT transaction_marker_kind_check;

-- Who inserts without saying the kind marks a commit, and that commit must not be lost in a crash: its message may be
-- delivered at once. If it could not be made durable the kind would be NULL, which is refused.
ALTER TABLE escrow.transaction_marker ALTER COLUMN kind SET DEFAULT
    CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) ANY ('{off,local,remote_write}'::pg_catalog.text[])
         THEN CASE WHEN pg_catalog.set_config('synchronous_commit', 'on', true) OPERATOR(pg_catalog.=) 'on' THEN 'C'::"char" END
         ELSE 'C'::"char" END;

-- The same limits as escrow.transaction_mark.
CREATE VIEW escrow.marking AS
SELECT m.txn_id, m.broker, m.half_offset
  FROM escrow.transaction_marker AS m
 WHERE pg_catalog.length(m.txn_id) OPERATOR(pg_catalog.>=) 1 AND pg_catalog.length(m.txn_id) OPERATOR(pg_catalog.<=) 128
   AND (m.broker IS NULL OR pg_catalog.octet_length(m.broker) OPERATOR(pg_catalog.<=) 255)
  WITH LOCAL CHECK OPTION;

-- Whoever may call escrow.transaction_mark may insert.
DO $$
DECLARE
    who oid;
BEGIN
    FOR who IN
        SELECT DISTINCT a.grantee
          FROM pg_catalog.pg_proc AS p, pg_catalog.aclexplode(p.proacl) AS a
         WHERE p.oid = 'escrow.transaction_mark(text, text, bigint)'::regprocedure AND a.grantee <> p.proowner
    LOOP
        EXECUTE pg_catalog.format('GRANT INSERT ON escrow.marking TO %s', CASE WHEN who = 0 THEN 'PUBLIC' ELSE who::regrole::text END);
    END LOOP;
END
$$;
