-- Reading: balances, history and explanations. What is due is shown as done, and nothing is
-- written, so all of this runs on a replica.
--
-- Invokers under row security: who may not see an account's rows gets no row, the same as for an
-- account that does not exist. The backend without claims sees everything (81_policies).

-- stable, as jsonb_build_object is: an immutable one would not be inlined
create or replace function pgsaas.free_by_source(p_b pgsaas.account_balances) returns jsonb
language sql stable
as $$
    select case when p_b.head_left > 0
        then p_b.other_free || pg_catalog.jsonb_build_object(p_b.head_source,
               trim_scale(p_b.head_left + coalesce((p_b.other_free ->> p_b.head_source)::numeric,
                   0)))
           else p_b.other_free end
$$;
comment on function pgsaas.free_by_source(pgsaas.account_balances) is
    'Free credits by source: {"purchase": 500, …}.';

create or replace function pgsaas.get_balance(p_account_id uuid)
returns table (account_id uuid, balance numeric, held numeric, available numeric, owed numeric,
    overdraft_limit numeric, by_source jsonb, next_expiry_at timestamptz, next_reset_at timestamptz,
    monthly_allowance numeric, lifetime_earned numeric, lifetime_spent numeric, is_frozen boolean,
        seq bigint)
language plpgsql stable rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
begin
    return query
        select b.account_id, b.balance, b.held, greatest(0, b.balance - b.held + b.overdraft_limit),
               b.owed, b.overdraft_limit, pgsaas.free_by_source(b),
               case when b.next_expiry_at < 'infinity' then b.next_expiry_at end,
               case when b.next_reset_at < 'infinity' then b.next_reset_at end,
               b.allowance, b.lifetime_earned, b.not_spent - b.balance, b.is_frozen, b.seq
          from pgsaas.account_balances b
         where b.account_id = p_account_id and b.next_change_at > greatest(pgsaas.now(), b.last_at);
    if found then
        return;
    end if;
    select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    if found then
        v_b := pgsaas.project_account(v_b);
        return query select v_b.account_id, v_b.balance, v_b.held,
            greatest(0, v_b.balance - v_b.held + v_b.overdraft_limit), v_b.owed,
            v_b.overdraft_limit, pgsaas.free_by_source(v_b), nullif(v_b.next_expiry_at, 'infinity'),
            nullif(v_b.next_reset_at, 'infinity'), v_b.allowance, v_b.lifetime_earned,
            v_b.not_spent - v_b.balance, v_b.is_frozen, v_b.seq;
    end if;
end $$;
comment on function pgsaas.get_balance(uuid) is
    'The account''s balance now, what is due shown as done: balance = free (by_source) + held - '
    'owed; available may be spent. Lifetime earned counts grants, spent counts deductions and '
    'captures less refunds. No row for an account the caller cannot see.';

-- Rows follow each other in time, so the last one at or before p_at is found by halving the range
-- of seq.
create or replace function pgsaas.balance_at(p_account_id uuid, p_at timestamptz) returns numeric
language plpgsql stable
as $$
declare
    v_b pgsaas.account_balances;
    v_low bigint;
    v_high bigint;
    v_middle bigint;
    v_created_at timestamptz;
    v_balance numeric;
begin
    if p_at is null or p_at > pgsaas.now() then
        raise exception 'a balance is known up to now, not at %', p_at using errcode = '22023';
    end if;
    select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    if not found then
        return null;
    end if;
    if p_at >= v_b.last_at then
        if v_b.next_change_at > p_at then
            return v_b.balance;
        end if;
        return (select s.settled).balance from pgsaas.plan_settlement(v_b, p_at) s;
    end if;
    v_low := v_b.archived_seq;      -- the last row known to be at or before p_at
    v_high := v_b.seq + 1;          -- the first known to be later
    if v_low > 0 then
        select c.balance_after, c.created_at into v_balance, v_created_at
            from pgsaas.credit_checkpoints c
         where c.account_id = p_account_id and c.seq = v_low;
        if v_created_at > p_at then
            return null;
        end if;
    end if;
    while v_high - v_low > 1 loop
        v_middle := (v_low + v_high) / 2;
        select t.created_at into v_created_at from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq = v_middle;
        if v_created_at <= p_at then
            v_low := v_middle;
        else
            v_high := v_middle;
        end if;
    end loop;
    if v_low > v_b.archived_seq then
        select t.balance_after into v_balance from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq = v_low;
    end if;
    return coalesce(v_balance, 0);
end $$;
comment on function pgsaas.balance_at(uuid, timestamptz) is
    'The balance at a past moment, by account time: after the last row dated at or before it. 0 '
    'before the first row; null for an account the caller cannot see and for times before an '
    'archived prefix ends. 22023 for null or the future.';

create or replace function pgsaas.list_transactions(
    p_account_id uuid, p_before_seq bigint default null, p_limit integer default 100,
        p_type text default null)
returns table (account_id uuid, seq bigint, created_at timestamptz, transaction_type text,
    amount numeric,
    balance_after numeric, description text, job_id uuid, agent_id text, hold_id bigint,
        grant_id bigint,
    ref_seq bigint, idempotency_key text, metadata jsonb)
language plpgsql stable
as $$
begin
    if p_limit is null or p_limit not between 1 and 1000 then
        raise exception 'limit must be between 1 and 1000' using errcode = '22023';
    end if;
    if p_type not in ('grant', 'deduction', 'capture', 'refund', 'expiry', 'revoke', 'restore',
        'transfer_in',
                      'transfer_out', 'adjustment') then
        raise exception 'no transaction type "%"', p_type using errcode = '22023',
            hint = 'Types are grant, deduction, capture, refund, expiry, revoke, restore, '
                   'transfer_in, transfer_out, adjustment.';
    end if;
    return query
        select t.account_id, t.seq, t.created_at, t.transaction_type, t.amount, t.balance_after,
            t.description, t.job_id,
               t.agent_id, t.hold_id, t.grant_id, t.ref_seq, t.idempotency_key,
                   coalesce(t.metadata, '{}')
          from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq < coalesce(p_before_seq, 9223372036854775807)
           and (p_type is null or t.transaction_type = p_type)
         order by t.seq desc
         limit p_limit;
end $$;
comment on function pgsaas.list_transactions(uuid, bigint, integer, text) is
    'The account''s ledger, newest first: rows before p_before_seq (null: from the newest), at '
    'most p_limit (1 to 1000), of one type if given. Page on with the last seq. 22023 for a wrong '
    'limit or type.';

create or replace function pgsaas.explain_deduction(p_account_id uuid, p_seq bigint)
returns table (part integer, grant_id bigint, source text, amount numeric, refunded numeric,
    priority integer,
    effective_at timestamptz, expires_at timestamptz)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_row pgsaas.credit_transactions;
begin
    select * into v_row from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.seq = p_seq and t.transaction_type in ('deduction',
         'capture');
    if not found then
        perform pgsaas.raise_not_found('deduction or capture');
    end if;
    return query
        with parts as (
            select x.n::integer as n, (x.part ->> 0)::bigint as grant_id,
                (x.part ->> 1)::numeric as amount
              from jsonb_array_elements(pgsaas.row_allocations(v_row)) with ordinality x (part, n)),
        back as (    -- refunds take the parts from the last to the first
            select coalesce(sum(t.amount), 0) as amount from pgsaas.credit_transactions t
             where t.account_id = p_account_id and t.ref_seq = p_seq
                 and t.transaction_type = 'refund')
        select p.n, case when p.grant_id > 0 then p.grant_id end,
               coalesce(g.source, 'overdraft'), p.amount,
               greatest(0, least(p.amount, b.amount - coalesce(sum(p.amount) over (order by p.n desc
                   rows between unbounded preceding and 1 preceding), 0))),
               g.priority::integer, g.effective_at, nullif(g.expires_at, 'infinity')
          from back b cross join parts p
          left join pgsaas.credit_grants g on g.account_id = p_account_id
              and g.grant_id = p.grant_id
         order by p.n;
end $$;
comment on function pgsaas.explain_deduction(uuid, bigint) is
    'Where the credits of a deduction or capture came from, in the order they burned, and how much '
    'of each part has been refunded since. A part without a grant was overdraft or debt. PT404 if '
    'the caller sees no such row.';
