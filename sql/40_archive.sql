-- Archiving: the old end of a ledger leaves the database without breaking the chain.
--
-- A prefix of an account's rows is removed and handed to the caller, who keeps it (or not) in the
-- same transaction: insert into archive.ledger select * from pgsaas.archive_ledger(…). What stays:
-- a checkpoint with the totals up to the last row that went, so that verify_ledger() and
-- balance_at() go on from there; and every idempotency key, so that a key still has one effect,
-- ever (30_ledger and 31_deductions look there once an account has an archive). Holds and grants
-- are not archived. What went can no longer be refunded or explained.

create or replace function pgsaas.archive_ledger(p_account_id uuid, p_before timestamptz)
returns setof pgsaas.credit_transactions
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_b pgsaas.account_balances;
    v_old pgsaas.credit_checkpoints;
    v_last pgsaas.credit_transactions;
begin
    perform pgsaas.check_administers();
    v_b := pgsaas.lock_account(p_account_id);
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    v_b := pgsaas.settle_account(v_b);    -- what is due before p_before goes, too
    perform pgsaas.store_balance(v_b);
    select * into v_last from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.created_at < p_before
     order by t.seq desc limit 1;
    if not found then
        return;
    end if;
    select * into v_old from pgsaas.credit_checkpoints c
     where c.account_id = p_account_id and c.seq = v_b.archived_seq;
    insert into pgsaas.credit_checkpoints (account_id, seq, created_at, balance_after, not_spent,
        lifetime_earned, archived_at)
    select p_account_id, v_last.seq, v_last.created_at, v_last.balance_after,
           coalesce(v_old.not_spent, 0) + coalesce(sum(t.amount) filter (
               where t.transaction_type not in ('deduction', 'capture', 'refund')), 0),
           coalesce(v_old.lifetime_earned, 0) + coalesce(sum(t.amount) filter (
               where t.transaction_type = 'grant'), 0),
           pgsaas.now()
      from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.seq <= v_last.seq;
    insert into pgsaas.archived_keys (account_id, idempotency_key, key_scope, seq, grant_id, job_id,
        amount, balance_after, agent_id, request_hash)
    select t.account_id, t.idempotency_key, t.key_scope, t.seq, t.grant_id, t.job_id, t.amount,
           t.balance_after, t.agent_id, t.request_hash
      from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.seq <= v_last.seq and t.idempotency_key is not null;
    perform pgsaas.audit('ledger.archived', p_account_id,
        jsonb_build_object('up_to_seq', v_last.seq, 'before', p_before));
    return query select * from pgsaas.remove_archived(p_account_id, v_last.seq);
end $$;
comment on function pgsaas.archive_ledger(uuid, timestamptz) is
    'Removes the account''s rows dated before p_before and returns them, leaving a checkpoint and '
    'their keys. What went can no longer be refunded or explained; the balance does not change. '
    'Owner only; audited. PT404.';
