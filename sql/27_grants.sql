-- Grants and rows to be: how they are made, pay and end, in memory.
--
-- Returns (28), settlement (29) and the writers (30 and on) decide; what they decide about a grant
-- or a row is put together here. Nothing is read and nothing is written, so readers call all of it
-- with their own rights. No locks.

create or replace function pgsaas.source_rank(p_source text) returns smallint
language sql immutable parallel safe
as $$
    select case p_source when 'purchase' then 1 when 'bonus' then 2 when 'referral' then 2
        when 'transfer' then 2
           when 'refund' then 3 when 'trial' then 4 when 'rollover' then 5 when 'allowance'
               then 6 end::smallint
$$;
comment on function pgsaas.source_rank(text) is
    'Place of a source in the burn order: purchase, bonus and referral and transfer, refund, '
    'trial, rollover, allowance. Null for no source.';

create or replace function pgsaas.new_row(
    p_type text, p_amount numeric, p_at timestamptz, p_grant_id bigint default null,
        p_hold_id bigint default null,
    out new_row pgsaas.credit_transactions)
language plpgsql immutable parallel safe
as $$
begin
    new_row.transaction_type := p_type;
    new_row.amount := p_amount;
    new_row.created_at := p_at;
    new_row.grant_id := p_grant_id;
    new_row.hold_id := p_hold_id;
end $$;
comment on function pgsaas.new_row(text, numeric, timestamptz, bigint, bigint) is
    'A ledger row to be: seq and balance_after come when it is written.';

create or replace function pgsaas.new_grant(
    p_b pgsaas.account_balances, p_source text, p_amount numeric, p_remaining numeric,
        p_at timestamptz,
    p_expires_at timestamptz, p_priority integer default 0, out new_grant pgsaas.credit_grants)
language plpgsql immutable parallel safe
as $$
begin
    new_grant.account_id := p_b.account_id;
    new_grant.grant_id := p_b.grant_count + 1;
    new_grant.effective_at := p_at;
    new_grant.expires_at := p_expires_at;
    new_grant.acquired_at := p_at;
    new_grant.is_open := p_remaining > 0;
    new_grant.is_pending := false;
    new_grant.priority := p_priority;
    new_grant.source_rank := pgsaas.source_rank(p_source);
    new_grant.amount := p_amount;
    new_grant.remaining := p_remaining;
    new_grant.revoked := 0;
    new_grant.unrecovered := 0;
    new_grant.moved := 0;
    new_grant.expired := 0;
    new_grant.source := p_source;
end $$;
comment on function pgsaas.new_grant(pgsaas.account_balances, text, numeric, numeric, timestamptz,
    timestamptz, integer) is
    'The account''s next grant, to be stored by the caller, who also counts it (grant_count).';

create or replace function pgsaas.expired_grant(
    inout p_grant pgsaas.credit_grants, p_held numeric default null)
language plpgsql immutable parallel safe
as $$
begin
    p_grant.expired := least(p_grant.expired + coalesce(p_held, p_grant.remaining),
        p_grant.amount - p_grant.revoked - p_grant.moved);
    if p_held is null then
        p_grant.remaining := 0;
        p_grant.is_open := false;
    end if;
end $$;
comment on function pgsaas.expired_grant(pgsaas.credit_grants, numeric) is
    'A grant that ends with what is free in it; or, with p_held, only so many credits that were '
    'held and return too late.';

-- Credits pay what is owed before they are free: the oldest debt first.
create or replace function pgsaas.pay(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[], p_grant_id bigint,
    p_amount numeric, p_at timestamptz, out p_left numeric)
language plpgsql immutable parallel safe
as $$
declare
    v_pays numeric := least(p_amount, p_b.owed);
    v_part numeric;
begin
    p_left := p_amount - v_pays;
    p_b.owed := p_b.owed - v_pays;
    for v_i in 1 .. cardinality(p_debts) loop
        exit when v_pays = 0;
        v_part := least(v_pays, p_debts[v_i].unpaid);
        if v_part > 0 then
            p_debts[v_i].unpaid := p_debts[v_i].unpaid - v_part;
            p_debts[v_i].paid_by := p_debts[v_i].paid_by
                || jsonb_build_array(jsonb_build_array(p_grant_id, trim_scale(v_part),
                    p_at at time zone 'UTC'));
            v_pays := v_pays - v_part;
        end if;
    end loop;
end $$;
comment on function pgsaas.pay(pgsaas.account_balances, pgsaas.credit_debts[], bigint, numeric,
    timestamptz) is
    'Lets credits of a grant pay what the account owes; p_left of them are free. p_debts are its '
    'debts in the order of their ids.';

-- What is owed is paid first. What a revocation has taken already goes on as credits of its own:
-- nobody could take it again.
create or replace function pgsaas.hand_on(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[],
    inout p_old pgsaas.credit_grants, p_source text, p_amount numeric, p_at timestamptz,
    p_expires_at timestamptz, out p_new pgsaas.credit_grants[])
language plpgsql immutable parallel safe
as $$
declare
    v_moving numeric := least(p_amount,
        p_old.amount - p_old.revoked - p_old.moved - p_old.expired);
    v_amount numeric;
    v_paid record;
    v_new pgsaas.credit_grants;
begin
    p_new := '{}';
    foreach v_amount in array array[v_moving, p_amount - v_moving] loop
        continue when v_amount = 0;
        v_paid := pgsaas.pay(p_b, p_debts, p_b.grant_count + 1, v_amount, p_at);
        p_b := v_paid.p_b;
        p_debts := v_paid.p_debts;
        v_new := pgsaas.new_grant(p_b, p_source, v_amount, v_paid.p_left, p_at, p_expires_at);
        v_new.acquired_at := p_old.acquired_at;
        if v_moving > 0 then
            v_new.root_account_id := coalesce(p_old.root_account_id, p_old.account_id);
            v_new.root_grant_id := coalesce(p_old.root_grant_id, p_old.grant_id);
            p_old.moved := p_old.moved + v_moving;
            v_moving := 0;
        end if;
        p_b.grant_count := v_new.grant_id;
        p_new := p_new || v_new;
    end loop;
end $$;
comment on function pgsaas.hand_on(pgsaas.account_balances, pgsaas.credit_debts[],
    pgsaas.credit_grants, text, numeric, timestamptz, timestamptz) is
    'Lets credits of an old grant go on in a new one, which names the grant they were first part '
    'of and pays what is owed.';

-- One allocation fits the column grant_id; several need the list. Overdraft alone is a list, too.
create or replace function pgsaas.allocated(inout p_row pgsaas.credit_transactions,
    p_allocations jsonb)
language plpgsql immutable parallel safe
as $$
begin
    if jsonb_array_length(p_allocations) = 1 and (p_allocations -> 0 ->> 0)::bigint > 0 then
        p_row.grant_id := (p_allocations -> 0 ->> 0)::bigint;
    else
        p_row.allocations := p_allocations;
    end if;
end $$;
comment on function pgsaas.allocated(pgsaas.credit_transactions, jsonb) is
    'Notes on a row to be which grants its credits came from.';

create or replace function pgsaas.row_allocations(p_row pgsaas.credit_transactions) returns jsonb
language sql immutable parallel safe
as $$
    select coalesce(p_row.allocations, jsonb_build_array(jsonb_build_array(p_row.grant_id,
        -p_row.amount)))
$$;
comment on function pgsaas.row_allocations(pgsaas.credit_transactions) is
    'Which grants a deduction or capture took its credits from: [[grant_id, amount], …] in burn '
    'order.';
