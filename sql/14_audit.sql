-- The audit log: every act of an admin and every change of a role or a setting, with the actor.
--
-- The actor is derived from the transaction (12_identity), never taken from an argument. Events are
-- written in the transaction of the act they describe. Nobody but the owner's functions writes
-- here; erasing an account empties the details of its events.

create or replace function pgsaas.audit(p_action text, p_account_id uuid,
    p_details jsonb default '{}')
returns void
language sql volatile
as $$
    insert into pgsaas.audit_events (account_id, created_at, actor, action, details)
    values (p_account_id, pgsaas.now(), pgsaas.actor(), p_action,
        pg_catalog.jsonb_strip_nulls(p_details))
$$;
comment on function pgsaas.audit(text, uuid, jsonb) is
    'Records one act, in the caller''s transaction.';
