-- The ledger's primitives. Only this room, those that charge (31_deductions, 50_usage,
-- 51_usage_batch) and the reset of many (61_resets) write balances, transactions and debts.
-- Everything here assumes the account's row is locked by this transaction (26_locks).
--
-- The grant being burned (the head) is cached on that row: what is left of it is head_left, and its
-- own row is stale. While a deduction fits the head and nothing is due before next_change_at, it is
-- one HOT update and one insert (31_deductions). Every other writer has one shape:
--
--     lock_account  ->  its key  ->  settle_account  ->  its effect  ->  store_balance
--
-- settle_account writes the head back and does what is due (29_settlement decides); from then on
-- the balance is in memory, and nothing is true until store_balance has written it: a writer that
-- returns between the two leaves rows that the balance does not know. Look for the key BEFORE
-- settling.
--
-- next_change_at may be too early, never too late: too early costs one slow call, too late spends
-- what has expired. Account time is greatest(pgsaas.now(), last_at) and never runs backwards along
-- seq.

create or replace function pgsaas.available(p_b pgsaas.account_balances) returns numeric
language sql immutable parallel safe
as $$ select greatest(0, p_b.balance - p_b.held + p_b.overdraft_limit) $$;
comment on function pgsaas.available(pgsaas.account_balances) is
    'What may be spent now: balance - held + overdraft limit, never below 0.';

-- The burn order, in one place: verify_ledger() has its own, on purpose.
create or replace function pgsaas.open_grants(p_account_id uuid, p_burn_order text)
returns setof pgsaas.credit_grants
language sql stable
as $$
    select * from pgsaas.credit_grants g
     where g.account_id = p_account_id and g.is_open
     order by g.priority, case when p_burn_order = 'expiring_first' then g.expires_at end,
              g.source_rank, g.expires_at, g.grant_id
$$;
comment on function pgsaas.open_grants(uuid, text) is
    'Grants with free credits in the order in which they burn. remaining is stale for a cached '
    'head.';

-- Appends one row and moves the balance in memory with it; p_row holds the type, the amount and
-- what the caller wants to say. Returns the balance and, through p_b.seq, the row's number.
create or replace function pgsaas.append_row(
    inout p_b pgsaas.account_balances, p_row pgsaas.credit_transactions, p_key text default null,
    p_key_scope "char" default null, p_hash bytea default null, p_metadata jsonb default null)
language plpgsql volatile
as $$
begin
    p_b.seq := p_b.seq + 1;
    p_b.balance := p_b.balance + p_row.amount;
    p_b.last_at := greatest(p_row.created_at, p_b.last_at);
    if p_row.transaction_type not in ('deduction', 'capture', 'refund') then
        p_b.not_spent := p_b.not_spent + p_row.amount;
    end if;
    if p_row.transaction_type = 'grant' then
        p_b.lifetime_earned := p_b.lifetime_earned + p_row.amount;
    end if;
    insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, ref_seq,
        hold_id, job_id,
        key_scope, transaction_type, amount, balance_after, agent_id, description, idempotency_key,
        request_hash, allocations, metadata)
    values (p_b.account_id, p_b.seq, p_b.last_at, p_row.grant_id, p_row.ref_seq, p_row.hold_id,
        p_row.job_id,
        case when p_key is not null then p_key_scope end, p_row.transaction_type, p_row.amount,
            p_b.balance,
        p_row.agent_id, p_row.description, p_key, case when p_key is not null then p_hash end,
        p_row.allocations, nullif(p_metadata, '{}'));
end $$;
comment on function pgsaas.append_row(pgsaas.account_balances, pgsaas.credit_transactions, text,
    "char", bytea, jsonb) is
    'Appends one row to the ledger of a locked, settled account. The caller stores the balance.';

-- Takes amounts, one after the other, out of the open grants in burn order. Allocations are
-- [[grant_id, amount], ...]; what the grants do not cover is the last part, [-debt_id, amount], and
-- becomes owed. Grants and amounts are laid end to end on one line: between two edges credits go
-- from one grant to one amount.
create or replace function pgsaas.burn(
    inout p_b pgsaas.account_balances, p_amounts numeric[], out p_allocations jsonb[])
language plpgsql volatile
as $$
declare
    v_opened record;
begin
    with grants as (
        select g.grant_id, row_number() over () as place,
               sum(g.remaining) over (rows unbounded preceding) as edge
          from pgsaas.open_grants(p_b.account_id, p_b.burn_order) g),
    edges as (
        select g.edge, g.place, null::bigint as n from grants g
        union all
        select sum(a.amount) over (order by a.n), null, a.n
          from unnest(p_amounts) with ordinality a (amount, n)),
    stretches as (
        select e.edge, e.edge - lag(e.edge, 1, 0.0) over (order by e.edge) as amount,
               min(e.place) over (order by e.edge desc) as place,
               min(e.n) over (order by e.edge desc) as n
          from edges e),
    parts as (
        select s.n, s.edge, trim_scale(s.amount) as amount,
               coalesce(g.grant_id, -p_b.debt_count - row_number()
                   over (partition by g.grant_id is null order by s.n)) as grant_id
          from stretches s left join grants g using (place)
         where s.amount > 0 and s.n is not null),
    taken as (
        update pgsaas.credit_grants g
           set remaining = g.remaining - t.amount, is_open = g.remaining > t.amount
          from (select p.grant_id, sum(p.amount) as amount from parts p group by p.grant_id) t
         where g.account_id = p_b.account_id and g.grant_id = t.grant_id),
    owed as (
        insert into pgsaas.credit_debts as d (account_id, debt_id, created_at, amount, unpaid)
        select p_b.account_id, -p.grant_id, p_b.last_at, p.amount, p.amount
          from parts p where p.grant_id < 0
        returning d.amount),
    allocations as (
        select p.n, jsonb_agg(jsonb_build_array(p.grant_id, p.amount) order by p.edge) as parts
          from parts p group by p.n)
    select (select array_agg(a.parts order by a.n) from allocations a) as parts,
           count(*) as n, coalesce(sum(o.amount), 0) as amount
      into v_opened from owed o;
    p_allocations := v_opened.parts;
    p_b.debt_count := p_b.debt_count + v_opened.n;
    p_b.owed := p_b.owed + v_opened.amount;
end $$;
comment on function pgsaas.burn(pgsaas.account_balances, numeric[]) is
    'Takes amounts above 0 out of the open grants in burn order, the first amount first; what they '
    'do not cover is a debt. Returns for each where its credits came from.';

create or replace function pgsaas.store_grant(p_grant pgsaas.credit_grants) returns void
language sql volatile
as $$ insert into pgsaas.credit_grants select p_grant.* $$;
comment on function pgsaas.store_grant(pgsaas.credit_grants) is
    'Stores a grant that new_grant() made.';

create or replace function pgsaas.store_debts(p_debts pgsaas.credit_debts[]) returns void
language sql volatile
as $$
    update pgsaas.credit_debts d set unpaid = n.unpaid, paid_by = n.paid_by
      from unnest(p_debts) n
     where d.account_id = n.account_id and d.debt_id = n.debt_id
       and (d.unpaid, d.paid_by) is distinct from (n.unpaid, n.paid_by)
$$;
comment on function pgsaas.store_debts(pgsaas.credit_debts[]) is
    'Writes debts back as far as they have changed.';

create or replace function pgsaas.pay_debts(inout p_b pgsaas.account_balances, p_payments jsonb)
language plpgsql volatile
as $$
declare
    v_debts pgsaas.credit_debts[] := pgsaas.debts_to_settle(p_b, '{}');
    v_paid record;
    v_payment record;
begin
    for v_payment in
        select (x ->> 0)::bigint as grant_id, (x ->> 1)::numeric as amount
          from jsonb_array_elements(p_payments) with ordinality p (x, n) order by n
    loop
        v_paid := pgsaas.pay(p_b, v_debts, v_payment.grant_id, v_payment.amount,
            p_b.last_at);
        p_b := v_paid.p_b;
        v_debts := v_paid.p_debts;
    end loop;
    perform pgsaas.store_debts(v_debts);
end $$;
comment on function pgsaas.pay_debts(pgsaas.account_balances, jsonb) is
    'Lets new grants [[grant_id, amount], …] of a settled account pay what it owes.';

-- Opens a grant of a settled account. What is owed is paid first, and by as much less is free in
-- it.
create or replace function pgsaas.open_grant(
    inout p_b pgsaas.account_balances, p_source text, p_amount numeric, p_expires_at timestamptz,
    p_priority integer default 0, p_pending_until timestamptz default null)
language plpgsql volatile
as $$
declare
    v_grant pgsaas.credit_grants;
    v_pays numeric := case when p_pending_until is null then least(p_amount, p_b.owed) else 0 end;
begin
    if v_pays > 0 then
        p_b := pgsaas.pay_debts(p_b, jsonb_build_array(jsonb_build_array(p_b.grant_count + 1,
            v_pays)));
    end if;
    v_grant := pgsaas.new_grant(p_b, p_source, p_amount, p_amount - v_pays, p_b.last_at,
        p_expires_at, p_priority);
    if p_pending_until is not null then
        v_grant.effective_at := p_pending_until;
        v_grant.acquired_at := p_pending_until;
        v_grant.is_pending := true;
        v_grant.is_open := false;
    end if;
    p_b.grant_count := v_grant.grant_id;
    perform pgsaas.store_grant(v_grant);
end $$;
comment on function pgsaas.open_grant(pgsaas.account_balances, text, numeric, timestamptz, integer,
    timestamptz) is
    'Opens the account''s next grant (its id is then p_b.grant_count), after paying what is owed. '
    'Pending if a later time is given.';

-- Writes what 29_settlement worked out: everything due at the account's time and, if parts are
-- given, their return from a hold or a refund.
create or replace function pgsaas.settle_account(
    inout p_b pgsaas.account_balances, p_parts jsonb default null, p_hold_id bigint default null,
    p_taken_at timestamptz default null, p_not_before timestamptz default null)
language plpgsql volatile
as $$
declare
    v_at timestamptz := greatest(pgsaas.now(), p_b.last_at, p_not_before);
    v_plan record;
begin
    if p_b.head_grant_id is not null then
        update pgsaas.credit_grants g set remaining = p_b.head_left, is_open = p_b.head_left > 0
         where g.account_id = p_b.account_id and g.grant_id = p_b.head_grant_id
           and g.remaining <> p_b.head_left;
        p_b.head_grant_id := null;
        p_b.head_left := 0;
    end if;
    if p_b.next_change_at <= v_at or p_parts is not null then
        select * into v_plan from pgsaas.plan_settlement(p_b, v_at, p_parts, p_hold_id, p_taken_at);
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, hold_id,
            transaction_type,
            amount, balance_after)
        select p_b.account_id, p_b.seq + r.ordinality, r.created_at, r.grant_id, r.hold_id,
            r.transaction_type,
               r.amount, p_b.balance + sum(r.amount) over (order by r.ordinality)
          from unnest(v_plan.new_rows) with ordinality r;
        update pgsaas.credit_holds h set state = 'lapsed', closed_at = h.expires_at
         where h.account_id = p_b.account_id and h.hold_id = any (v_plan.lapsed);
        insert into pgsaas.credit_grants as g
        select p.* from unnest(v_plan.grants) p
        on conflict (account_id, grant_id) do update
           set remaining = excluded.remaining, is_open = excluded.is_open,
               is_pending = excluded.is_pending, unrecovered = excluded.unrecovered,
               expired = excluded.expired, moved = excluded.moved
         where (g.remaining, g.is_open, g.is_pending, g.unrecovered, g.expired, g.moved)
               is distinct from (excluded.remaining, excluded.is_open, excluded.is_pending,
                   excluded.unrecovered, excluded.expired, excluded.moved);
        perform pgsaas.store_debts(v_plan.debts);
        if p_b.balance - p_b.held < p_b.low_balance_at
           and (v_plan.settled).balance - (v_plan.settled).held >= p_b.low_balance_at then
            -- a fall from here is a crossing of its own: store_balance looks where it began
            update pgsaas.account_balances b
               set balance = (v_plan.settled).balance, held = (v_plan.settled).held
             where b.account_id = p_b.account_id;
        end if;
        p_b := v_plan.settled;
        p_b.next_change_at := 'infinity';    -- until store_balance works it out
    end if;
    p_b.last_at := v_at;
end $$;
comment on function pgsaas.settle_account(pgsaas.account_balances, jsonb, bigint, timestamptz,
    timestamptz) is
    'Brings a locked account up to its own time: the head written back, everything due posted in '
    'time order, and parts that return given back. The caller must store the balance.';

-- Picks the head, works out when something changes next, tells the outbox of a crossing, writes the
-- row.
create or replace function pgsaas.store_balance(p_b pgsaas.account_balances) returns void
language plpgsql volatile
as $$
declare
    v_was numeric;
begin
    with o as materialized (
        select g.grant_id, g.remaining, g.source, g.expires_at, row_number() over () as place
          from pgsaas.open_grants(p_b.account_id, p_b.burn_order) g)
    select max(o.grant_id) filter (where o.place = 1), coalesce(sum(o.remaining)
        filter (where o.place = 1), 0),
           max(o.source) filter (where o.place = 1), coalesce(min(o.expires_at), 'infinity'),
           coalesce((select jsonb_object_agg(s.source, s.free)
                       from (select n.source, trim_scale(sum(n.remaining)) as free from o n
                              where n.place > 1 group by n.source) s), '{}')
      into p_b.head_grant_id, p_b.head_left, p_b.head_source, p_b.next_expiry_at, p_b.other_free
      from o;
    p_b.next_change_at := case when p_b.is_frozen then '-infinity' else least(
        p_b.next_reset_at, p_b.next_expiry_at,
        (select min(g.effective_at) from pgsaas.credit_grants g
          where g.account_id = p_b.account_id and g.is_pending),
        (select min(h.expires_at) from pgsaas.credit_holds h
          where h.account_id = p_b.account_id and h.state = 'open')) end;
    if p_b.balance - p_b.held < p_b.low_balance_at then
        select b.balance - b.held into v_was from pgsaas.account_balances b
            where b.account_id = p_b.account_id;
        if v_was >= p_b.low_balance_at then
            perform pgsaas.emit(p_b.account_id, 'balance.low', p_b.last_at,
                jsonb_build_object('seq', p_b.seq, 'balance', p_b.balance, 'available',
                    pgsaas.available(p_b)));
        end if;
    end if;
    p_b.head_floor := pgsaas.head_floor(p_b);
    update pgsaas.account_balances b
       set seq = p_b.seq, last_at = p_b.last_at, next_change_at = p_b.next_change_at,
           next_expiry_at = p_b.next_expiry_at, next_reset_at = p_b.next_reset_at,
           period_anchor = p_b.period_anchor, head_grant_id = p_b.head_grant_id,
               grant_count = p_b.grant_count,
           hold_count = p_b.hold_count, debt_count = p_b.debt_count,
           period_count = p_b.period_count, is_frozen = p_b.is_frozen,
           balance = p_b.balance, head_left = p_b.head_left, head_floor = p_b.head_floor,
           held = p_b.held, owed = p_b.owed,
           overdraft_limit = p_b.overdraft_limit, low_balance_at = p_b.low_balance_at,
           allowance = p_b.allowance, period_granted = p_b.period_granted,
           period_raises = p_b.period_raises, rollover_limit = p_b.rollover_limit,
           terms_end_at = p_b.terms_end_at,
           next_terms = p_b.next_terms, lifetime_earned = p_b.lifetime_earned,
           not_spent = p_b.not_spent, burn_order = p_b.burn_order,
           head_source = p_b.head_source, other_free = p_b.other_free
     where b.account_id = p_b.account_id;
end $$;
comment on function pgsaas.store_balance(pgsaas.account_balances) is
    'Writes the balance of a settled account back, with its next head and the next time something '
    'changes.';

create or replace function pgsaas.store_head(p_b pgsaas.account_balances) returns void
language plpgsql volatile
as $$
begin
    update pgsaas.account_balances b
       set seq = p_b.seq, last_at = p_b.last_at, next_change_at = p_b.next_change_at,
           balance = p_b.balance, head_left = p_b.head_left,
           head_floor = pgsaas.head_floor(p_b), held = p_b.held, hold_count = p_b.hold_count
     where b.account_id = p_b.account_id;
end $$;
comment on function pgsaas.store_head(pgsaas.account_balances) is
    'Writes the balance of a locked account back where nothing is due, only more or less of the '
    'head is left, and the alert of a low balance is not due. next_change_at may be too early.';

-- The original answer for a key that is known; nothing for a new one; PT409 for another request.
-- Looks into the archive only where there is one.
create or replace function pgsaas.find_replay(
    p_b pgsaas.account_balances, p_scope "char", p_key text, p_hash bytea,
    out p_found boolean, out p_seq bigint, out p_new_balance numeric, out p_grant_id bigint,
        out p_amount numeric)
language plpgsql volatile
as $$
declare
    v_hash bytea;
begin
    p_found := false;
    if p_key is null then
        return;
    end if;
    select true, t.seq, t.balance_after, t.grant_id, t.amount, t.request_hash
      into p_found, p_seq, p_new_balance, p_grant_id, p_amount, v_hash
      from pgsaas.credit_transactions t
     where t.account_id = p_b.account_id and t.idempotency_key = p_key and t.key_scope = p_scope;
    if not found and p_b.archived_seq > 0 then
        select true, k.seq, k.balance_after, k.grant_id, k.amount, k.request_hash
          into p_found, p_seq, p_new_balance, p_grant_id, p_amount, v_hash
          from pgsaas.archived_keys k
         where k.account_id = p_b.account_id and k.idempotency_key = p_key
             and k.key_scope = p_scope;
    end if;
    p_found := coalesce(p_found, false);
    if p_found and v_hash is distinct from p_hash then
        perform pgsaas.raise_key_conflict(p_key);
    end if;
end $$;
comment on function pgsaas.find_replay(pgsaas.account_balances, "char", text, bytea) is
    'The answer that this key got before, if it was used for the same request; PT409 if for '
    'another.';

create or replace function pgsaas.insert_balance(p_account_id uuid, p_burn_order text,
    p_low_balance_at numeric)
returns void
language sql volatile
as $$
    insert into pgsaas.account_balances (account_id, last_at, burn_order, low_balance_at)
    values (p_account_id, pgsaas.now(), p_burn_order, p_low_balance_at)
$$;
comment on function pgsaas.insert_balance(uuid, text, numeric) is
    'The balance row of a new account: empty, with its terms.';

create or replace function pgsaas.erase_texts(p_account_id uuid) returns void
language plpgsql volatile
as $$
begin
    update pgsaas.credit_transactions t set description = null, metadata = null
     where t.account_id = p_account_id and (t.description is not null or t.metadata is not null);
    update pgsaas.credit_holds h set description = null, metadata = null
     where h.account_id = p_account_id and (h.description is not null or h.metadata is not null);
    update pgsaas.outbox_messages o set payload = '{}' where o.account_id = p_account_id;
end $$;
comment on function pgsaas.erase_texts(uuid) is
    'Nulls the free text of an account''s ledger and holds: the one change that the ledger''s '
    'guard lets pass.';

create or replace function pgsaas.remove_archived(p_account_id uuid, p_seq bigint)
returns setof pgsaas.credit_transactions
language plpgsql volatile
as $$
begin
    update pgsaas.account_balances b set archived_seq = p_seq where b.account_id = p_account_id;
    return query
        with removed as (
            delete from pgsaas.credit_transactions t
             where t.account_id = p_account_id and t.seq <= p_seq returning *)
        select * from removed r order by r.seq;
end $$;
comment on function pgsaas.remove_archived(uuid, bigint) is
    'Takes the rows up to p_seq out of a locked account''s ledger and returns them; their '
    'checkpoint and their keys are written already.';
