-- The outbox: facts that other parts of the system wait for, written by whoever makes them true.
--
-- A message lives and dies with the transaction that wrote it, so nobody hears of a charge that was
-- rolled back. No triggers: a writer that knows it crossed a line says so. Readers (alerts,
-- webhooks, statistics) take messages in the order of their ids and must tolerate gaps (ids of
-- rolled-back transactions) and late arrivals (a lower id may commit after a higher one).

create or replace function pgsaas.emit(p_account_id uuid, p_topic text, p_at timestamptz,
    p_payload jsonb)
returns void
language sql volatile
as $$
    insert into pgsaas.outbox_messages (account_id, topic, created_at, payload)
    values (p_account_id, p_topic, p_at, p_payload)
$$;
comment on function pgsaas.emit(uuid, text, timestamptz, jsonb) is
    'Writes one fact into the outbox, in the caller''s transaction.';
