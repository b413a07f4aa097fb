-- Returns: what becomes of credits that come back from a hold or a refund, in memory.
--
-- * A part whose grant has expired is gone if it was held (an expiry row), as far as a revocation
--   has not taken its like already. What remains of it, and what was refunded, lives in a new grant
--   for the time it had left when it was taken, at most until the next reset.
-- * A part whose grant was revoked without recovery is taken back before it becomes free.
-- * A part that was owed cancels what of that very debt is unpaid; what was paid returns to the
--   grants that paid it, the last first.
-- * Free credits and owed never coexist: whatever becomes free pays what is owed first.
--
-- Settlement (29) calls these with the account and the grants that it works on and takes them back
-- changed. Nothing is read and nothing is written. No locks.

-- p_what is lapse, release or refund.
create or replace function pgsaas.return_part(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[],
    inout p_grant pgsaas.credit_grants, p_amount numeric, p_what text, p_hold_id bigint,
    p_taken_at timestamptz, p_at timestamptz,
    out new_rows pgsaas.credit_transactions[], out new_grants pgsaas.credit_grants[])
language plpgsql stable
as $$
declare
    v_is_over constant boolean := p_grant.expires_at < p_at
        or p_grant.expires_at = p_at and p_what <> 'lapse';
    v_left numeric := p_amount;
    v_part numeric;
    v_ends timestamptz;
    v_handed record;
    v_paid record;
begin
    new_rows := '{}';
    new_grants := '{}';
    if v_is_over and p_what <> 'refund' then
        v_part := least(v_left, greatest(0, p_grant.amount - p_grant.revoked - p_grant.moved
            - p_grant.expired - p_grant.remaining));
        if v_part > 0 then
            new_rows := new_rows || pgsaas.new_row('expiry', -v_part, p_at, p_grant.grant_id,
                p_hold_id);
            p_grant := pgsaas.expired_grant(p_grant, v_part);
            v_left := v_left - v_part;
        end if;
    end if;
    if p_grant.unrecovered > 0 then
        v_part := least(v_left, p_grant.unrecovered);
        new_rows := new_rows || pgsaas.new_row('revoke', -v_part, p_at, p_grant.grant_id,
            p_hold_id);
        p_grant.unrecovered := p_grant.unrecovered - v_part;
        v_left := v_left - v_part;
    end if;
    if v_is_over and v_left > 0 then
        v_ends := least(p_b.next_reset_at, p_at + pgsaas.exact_interval(p_grant.expires_at
            - least(p_grant.expires_at, greatest(p_taken_at, p_grant.effective_at))));
        if v_ends > p_at then
            v_handed := pgsaas.hand_on(p_b, p_debts, p_grant, 'refund', v_left, p_at, v_ends);
            p_b := v_handed.p_b;
            p_debts := v_handed.p_debts;
            p_grant := v_handed.p_old;
            new_grants := v_handed.p_new;
            return;
        end if;
    end if;
    v_paid := pgsaas.pay(p_b, p_debts, p_grant.grant_id, v_left, p_at);
    p_b := v_paid.p_b;
    p_debts := v_paid.p_debts;
    v_left := v_paid.p_left;
    if v_left > 0 and v_is_over then
        new_rows := new_rows || pgsaas.new_row('expiry', -v_left, p_at, p_grant.grant_id,
            p_hold_id);
        p_grant := pgsaas.expired_grant(p_grant, v_left);
    elsif v_left > 0 then
        p_grant.remaining := p_grant.remaining + v_left;
        p_grant.is_open := true;
    end if;
end $$;
comment on function pgsaas.return_part(pgsaas.account_balances, pgsaas.credit_debts[],
    pgsaas.credit_grants, numeric, text, bigint, timestamptz, timestamptz) is
    'What comes back from a hold or a refund returns to the grant it was taken from at p_taken_at, '
    'or to what has become of that grant.';

create or replace function pgsaas.cancel_debt(
    inout p_b pgsaas.account_balances, inout p_debt pgsaas.credit_debts, p_amount numeric,
    out parts jsonb)
language plpgsql immutable parallel safe
as $$
declare
    v_left numeric := p_amount - least(p_amount, p_debt.unpaid);
    v_part numeric;
begin
    parts := '[]';
    p_b.owed := p_b.owed - (p_amount - v_left);
    p_debt.unpaid := p_debt.unpaid - (p_amount - v_left);
    while v_left > 0 loop
        if p_debt.paid_by = '[]' then
            raise exception 'debt % of account % has been paid by nobody', p_debt.debt_id,
                p_debt.account_id using hint = 'pgsaas verify tells what else is wrong with it.';
        end if;
        v_part := least(v_left, (p_debt.paid_by -> -1 ->> 1)::numeric);
        parts := parts || jsonb_build_array(jsonb_set(p_debt.paid_by -> -1, '{1}',
            to_jsonb(v_part)));
        if v_part = (p_debt.paid_by -> -1 ->> 1)::numeric then
            p_debt.paid_by := p_debt.paid_by - -1;
        else
            p_debt.paid_by := jsonb_set(p_debt.paid_by, '{-1,1}',
                to_jsonb(trim_scale((p_debt.paid_by -> -1 ->> 1)::numeric - v_part)));
        end if;
        v_left := v_left - v_part;
    end loop;
end $$;
comment on function pgsaas.cancel_debt(pgsaas.account_balances, pgsaas.credit_debts, numeric) is
    'Gives a debt back to the account: what of it is unpaid is owed no more, the rest are parts '
    '[[grant_id, amount, time in UTC], …] of the grants that have paid it.';

-- Parts are [[grant_id, amount], ...]; [-debt_id, amount] is what was owed. What paid a debt was
-- taken from its grant when it paid.
create or replace function pgsaas.return_parts(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[],
    inout p_grants pgsaas.credit_grants[], p_parts jsonb, p_what text, p_hold_id bigint,
    p_taken_at timestamptz, p_at timestamptz, out new_rows pgsaas.credit_transactions[])
language plpgsql stable
as $$
declare
    v_ids bigint[] := array(select g.grant_id from unnest(p_grants) g);    -- they grow
    v_n integer := 0;
    v_id bigint;
    v_i integer;
    v_amount numeric;
    v_back record;
begin
    new_rows := '{}';
    while v_n < jsonb_array_length(p_parts) loop
        v_id := (p_parts -> v_n ->> 0)::bigint;
        v_amount := (p_parts -> v_n ->> 1)::numeric;
        if v_id > 0 then
            v_i := array_position(v_ids, v_id);
            v_back := pgsaas.return_part(p_b, p_debts, p_grants[v_i], v_amount, p_what, p_hold_id,
                greatest(p_taken_at, (p_parts -> v_n ->> 2)::timestamp at time zone 'UTC'), p_at);
            p_b := v_back.p_b;
            p_debts := v_back.p_debts;
            p_grants[v_i] := v_back.p_grant;
            new_rows := new_rows || v_back.new_rows;
            p_grants := p_grants || v_back.new_grants;
            v_ids := v_ids || array(select g.grant_id from unnest(v_back.new_grants) g);
        else
            v_i := array_position(array(select d.debt_id from unnest(p_debts) d), -v_id);
            v_back := pgsaas.cancel_debt(p_b, p_debts[v_i], v_amount);
            p_b := v_back.p_b;
            p_debts[v_i] := v_back.p_debt;
            p_parts := p_parts || v_back.parts;
        end if;
        v_n := v_n + 1;
    end loop;
end $$;
comment on function pgsaas.return_parts(pgsaas.account_balances, pgsaas.credit_debts[],
    pgsaas.credit_grants[], jsonb, text, bigint, timestamptz, timestamptz) is
    'All that comes back from a hold or a refund at p_at, part after part.';
