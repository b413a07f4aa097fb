-- Settlement: what time has done to an account, worked out without writing anything.
--
-- This is the one place that decides what happens when a hold lapses, a period ends, a grant
-- expires or takes effect. Writers apply its answer (30_ledger), readers show it (37_reads): so
-- being late is harmless, and a replica tells the truth.
--
-- Events are handled in time order; on a tie lapse, reset, expire, admit. The rules:
-- * Free credits and owed never coexist: whatever becomes free pays what is owed first.
-- * What lapsed, was released or refunded returns as 28_returns says. A hold that lapses just when
--   its grants end lapses first: what returns then may still roll over.
-- * At the end of a period free credits of its own grants roll over up to the limit, the newest
--   first; the rest expires. Where the account's terms end with it, those that follow decide how
--   much may go on, and what is granted; nothing goes on where none follow.
-- * Of what rolls over only the twelve newest grants are told apart; older credits go on together,
--   out of a revocation's reach, so that an account where everything rolls over does not carry all
--   its past along.
--
-- The account's row must be locked by writers; readers take what their snapshot holds. Grants,
-- debts and holds are read with the caller's rights, so a reader sees nothing that row security
-- hides.

-- The grants that settlement has to look at: open, pending, and those that returning parts came
-- from. The cached head is shown with what is really left of it.
create or replace function pgsaas.grants_to_settle(p_b pgsaas.account_balances, p_part_ids bigint[])
returns pgsaas.credit_grants[]
language plpgsql stable
as $$
declare
    v_grants pgsaas.credit_grants[];
begin
    select array_agg(x::pgsaas.credit_grants order by x.grant_id) into v_grants from (
        select * from pgsaas.credit_grants g where g.account_id = p_b.account_id and g.is_open
        union all
        select * from pgsaas.credit_grants g where g.account_id = p_b.account_id and g.is_pending
        union all
        select * from pgsaas.credit_grants g
         where g.account_id = p_b.account_id and g.grant_id = any (p_part_ids)
           and not g.is_open and not g.is_pending) x;
    for v_i in 1 .. coalesce(cardinality(v_grants), 0) loop
        if v_grants[v_i].grant_id = p_b.head_grant_id then
            v_grants[v_i].remaining := p_b.head_left;
            v_grants[v_i].is_open := p_b.head_left > 0;
        end if;
    end loop;
    return coalesce(v_grants, '{}');
end $$;
comment on function pgsaas.grants_to_settle(pgsaas.account_balances, bigint[]) is
    'Open and pending grants of the account and those with the given ids, in the order of their '
    'ids.';

create or replace function pgsaas.debts_to_settle(p_b pgsaas.account_balances, p_part_ids bigint[])
returns pgsaas.credit_debts[]
language plpgsql stable
as $$
begin
    if p_b.owed = 0 and 0 < all (p_part_ids) then
        return array[]::pgsaas.credit_debts[];
    end if;
    return array(
        select d from pgsaas.credit_debts d
         where d.account_id = p_b.account_id
           and (d.unpaid > 0 or d.debt_id = any (select -x from unnest(p_part_ids) x where x < 0))
         order by d.debt_id);
end $$;
comment on function pgsaas.debts_to_settle(pgsaas.account_balances, bigint[]) is
    'Unpaid debts of the account and those that parts [-debt_id, …] name, in the order of their '
    'ids.';

-- What time brings up to p_at, lapses and ends of periods that have been missed among it.
create or replace function pgsaas.due_events(
    p_b pgsaas.account_balances, p_grants pgsaas.credit_grants[], p_at timestamptz)
returns table (at timestamptz, place integer, what text, id bigint, grant_index integer,
    parts jsonb, taken_at timestamptz)
language sql stable
as $$
    select h.expires_at, 0, 'lapse', h.hold_id, null::integer, h.allocations, h.created_at
      from pgsaas.credit_holds h
     where h.account_id = (p_b).account_id and h.state = 'open' and h.expires_at <= p_at
    union all
    select pgsaas.period_end((p_b).period_anchor, n), 1, 'reset', n, null, null, null
      from generate_series((p_b).period_count + 1, (p_b).period_count + case
               when (p_b).next_reset_at <= p_at then least(1200, 1 + floor(    -- of 28 days or more
                   extract(epoch from p_at - (p_b).next_reset_at) / (28 * 86400)))::integer
               else 0 end) n
     where pgsaas.period_end((p_b).period_anchor, n) <= p_at
    union all
    select g.expires_at, 2, 'expire', g.grant_id, g.ordinality, null, null
      from unnest(p_grants) with ordinality g
     where g.expires_at <= p_at
    union all
    select g.effective_at, 3, 'admit', g.grant_id, g.ordinality, null, null
      from unnest(p_grants) with ordinality g
     where g.is_pending and g.effective_at <= p_at
    order by 1, 2, 4
$$;
comment on function pgsaas.due_events(pgsaas.account_balances, pgsaas.credit_grants[],
    timestamptz) is
    'What is due for the account at p_at, in the order in which it happens.';

create or replace function pgsaas.end_period(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[],
    inout p_grants pgsaas.credit_grants[],
    p_at timestamptz, out new_rows pgsaas.credit_transactions[])
language plpgsql stable
as $$
declare
    v_newest_first constant integer[] := array(
        select g.ordinality::integer from unnest(p_grants) with ordinality g
         where g.is_open and g.expires_at = p_b.next_reset_at
           and g.source in ('allowance', 'rollover')
         order by g.acquired_at desc, g.grant_id desc);
    v_rolls numeric[] := array[]::numeric[];
    v_left numeric;    -- null: all of it
    v_gone numeric := 0;
    v_amount numeric;
    v_i integer;
    v_handed record;
    v_paid record;
begin
    new_rows := '{}';
    if p_b.next_reset_at >= p_b.terms_end_at then
        p_b.allowance := coalesce((p_b.next_terms ->> 'allowance')::numeric, 0);
        p_b.rollover_limit := case when p_b.next_terms is null then 0
            else (p_b.next_terms ->> 'rollover_limit')::numeric end;
        p_b.burn_order := coalesce(p_b.next_terms ->> 'burn_order', p_b.burn_order);
        p_b.period_anchor := case when p_b.next_terms is not null then p_b.period_anchor end;
        p_b.terms_end_at := (p_b.next_terms #>> '{then,at}')::timestamptz;
        p_b.next_terms := nullif((p_b.next_terms -> 'then') - 'at', '{}');
    end if;
    v_left := p_b.rollover_limit;
    p_b.period_count := p_b.period_count + 1;
    p_b.period_granted := p_b.allowance;
    p_b.period_raises := null;
    p_b.next_reset_at := coalesce(pgsaas.period_end(p_b.period_anchor, p_b.period_count + 1),
        'infinity');
    foreach v_i in array v_newest_first loop
        v_amount := least(p_grants[v_i].remaining, v_left);
        v_left := v_left - v_amount;
        v_gone := v_gone + p_grants[v_i].remaining - v_amount;
        v_rolls := v_rolls || v_amount;
    end loop;
    v_amount := (select sum(r.amount) from unnest(v_rolls[13:]) r (amount));
    if v_amount > 0 then
        p_grants := p_grants || pgsaas.new_grant(p_b, 'rollover', v_amount, v_amount, p_at,
            p_b.next_reset_at);
        p_b.grant_count := p_b.grant_count + 1;
        p_grants[cardinality(p_grants)].acquired_at :=
            p_grants[v_newest_first[cardinality(v_newest_first)]].acquired_at;
    end if;
    for v_n in reverse cardinality(v_newest_first) .. 1 loop
        v_i := v_newest_first[v_n];
        if v_n <= 12 and v_rolls[v_n] > 0 then
            v_handed := pgsaas.hand_on(p_b, p_debts, p_grants[v_i], 'rollover', v_rolls[v_n],
                p_at, p_b.next_reset_at);
            p_b := v_handed.p_b;
            p_debts := v_handed.p_debts;
            p_grants[v_i] := v_handed.p_old;
            p_grants[v_i].remaining := p_grants[v_i].remaining - v_rolls[v_n];
            p_grants := p_grants || v_handed.p_new;
        end if;
        p_grants[v_i] := pgsaas.expired_grant(p_grants[v_i]);
    end loop;
    if v_gone > 0 then
        new_rows := new_rows || pgsaas.new_row('expiry', -v_gone, p_at);
    end if;
    if p_b.allowance > 0 then
        v_paid := pgsaas.pay(p_b, p_debts, p_b.grant_count + 1, p_b.allowance, p_at);
        p_b := v_paid.p_b;
        p_debts := v_paid.p_debts;
        p_grants := p_grants || pgsaas.new_grant(p_b, 'allowance', p_b.allowance, v_paid.p_left,
            p_at, p_b.next_reset_at);
        p_b.grant_count := p_b.grant_count + 1;
        new_rows := new_rows || pgsaas.new_row('grant', p_b.allowance, p_at, p_b.grant_count);
    end if;
end $$;
comment on function pgsaas.end_period(pgsaas.account_balances, pgsaas.credit_debts[],
    pgsaas.credit_grants[], timestamptz) is
    'The end of the account''s period and the start of its next: rollover, the rest''s expiry, '
    'the new allowance.';

create or replace function pgsaas.admitted_grant(
    inout p_b pgsaas.account_balances, inout p_debts pgsaas.credit_debts[],
    inout p_grant pgsaas.credit_grants, p_at timestamptz)
language plpgsql immutable parallel safe
as $$
declare
    v_paid constant record := pgsaas.pay(p_b, p_debts, p_grant.grant_id, p_grant.remaining, p_at);
begin
    p_b := v_paid.p_b;
    p_debts := v_paid.p_debts;
    p_grant.is_pending := false;
    p_grant.remaining := v_paid.p_left;
    p_grant.is_open := p_grant.remaining > 0;
end $$;
comment on function pgsaas.admitted_grant(pgsaas.account_balances, pgsaas.credit_debts[],
    pgsaas.credit_grants, timestamptz) is
    'A pending grant that takes effect: it pays what is owed, the rest is free.';

-- With p_parts: credits return at p_at, after everything that is due; from a refund of something
-- taken at p_taken_at or, without that time, from the hold p_hold_id.
create or replace function pgsaas.plan_settlement(
    p_b pgsaas.account_balances, p_at timestamptz, p_parts jsonb default null,
        p_hold_id bigint default null,
    p_taken_at timestamptz default null, out settled pgsaas.account_balances,
    out new_rows pgsaas.credit_transactions[], out grants pgsaas.credit_grants[],
    out debts pgsaas.credit_debts[], out lapsed bigint[])
language plpgsql stable
as $$
declare
    v_part_ids constant bigint[] := array(
        select (x ->> 0)::bigint from jsonb_array_elements(p_parts) x
        union all
        select (x ->> 0)::bigint
          from pgsaas.credit_holds h, jsonb_array_elements(h.allocations) x
         where h.account_id = p_b.account_id and h.state = 'open' and h.expires_at <= p_at);
    v_event record;
    v_step record;
    v_at timestamptz;
    v_known integer;
    v_is_short boolean := true;
    v_done_at timestamptz := '-infinity'::timestamptz;
    v_done_place integer := 0;
    v_done_id bigint := 0::bigint;
begin
    settled := p_b;
    new_rows := '{}';
    lapsed := '{}';
    debts := pgsaas.debts_to_settle(p_b, v_part_ids);
    grants := pgsaas.grants_to_settle(p_b, v_part_ids || array(
        select (x ->> 0)::bigint from unnest(debts) d, jsonb_array_elements(d.paid_by) x
         where -d.debt_id = any (v_part_ids)));
    while v_is_short loop    -- again from there, when a grant was made that ends before p_at
        v_is_short := false;
        for v_event in
            select * from pgsaas.due_events(p_b, grants, p_at) e
             where (e.at, e.place, e.id) > (v_done_at, v_done_place, v_done_id)
        loop
            v_at := greatest(v_event.at, p_b.last_at);
            if v_event.what = 'lapse' then
                v_known := cardinality(grants);
                lapsed := lapsed || v_event.id;
                settled.held := settled.held - (select sum((x ->> 1)::numeric)
                    from jsonb_array_elements(v_event.parts) x);
                v_step := pgsaas.return_parts(settled, debts, grants, v_event.parts, 'lapse',
                    v_event.id, v_event.taken_at, v_at);
                settled := v_step.p_b;
                debts := v_step.p_debts;
                grants := v_step.p_grants;
                new_rows := new_rows || v_step.new_rows;
                v_is_short := exists (
                    select from unnest(grants[v_known + 1:]) g where g.expires_at <= p_at);
            elsif v_event.what = 'reset' and settled.period_anchor is null then
                null;    -- the terms have ended, and no other follow
            elsif v_event.what = 'reset' then
                v_step := pgsaas.end_period(settled, debts, grants, v_at);
                settled := v_step.p_b;
                debts := v_step.p_debts;
                grants := v_step.p_grants;
                new_rows := new_rows || v_step.new_rows;
            elsif v_event.what = 'admit' then
                new_rows := new_rows || pgsaas.new_row('grant',
                    grants[v_event.grant_index].remaining, v_at, v_event.id);
                v_step := pgsaas.admitted_grant(settled, debts, grants[v_event.grant_index],
                    v_at);
                settled := v_step.p_b;
                debts := v_step.p_debts;
                grants[v_event.grant_index] := v_step.p_grant;
            elsif grants[v_event.grant_index].remaining > 0 then
                new_rows := new_rows || pgsaas.new_row('expiry',
                    -grants[v_event.grant_index].remaining, v_at, v_event.id);
                grants[v_event.grant_index] := pgsaas.expired_grant(grants[v_event.grant_index]);
            end if;
            v_done_at := v_event.at;
            v_done_place := v_event.place;
            v_done_id := v_event.id;
            exit when v_is_short;
        end loop;
    end loop;
    if p_parts is not null then
        v_step := pgsaas.return_parts(settled, debts, grants, p_parts,
            case when p_taken_at is null then 'release' else 'refund' end, p_hold_id,
            coalesce(p_taken_at, (
                select h.created_at from pgsaas.credit_holds h
                 where h.account_id = p_b.account_id and h.hold_id = p_hold_id)),
            greatest(p_at, p_b.last_at));
        settled := v_step.p_b;
        debts := v_step.p_debts;
        grants := v_step.p_grants;
        new_rows := new_rows || v_step.new_rows;
    end if;
    select settled.seq + count(*), settled.balance + coalesce(sum(r.amount), 0),
           settled.not_spent + coalesce(sum(r.amount), 0),
           settled.lifetime_earned + coalesce(sum(r.amount) filter (where r.transaction_type
               = 'grant'), 0)
      into settled.seq, settled.balance, settled.not_spent, settled.lifetime_earned
      from unnest(new_rows) r;
    settled.last_at := p_at;
end $$;
comment on function pgsaas.plan_settlement(pgsaas.account_balances, timestamptz, jsonb, bigint,
    timestamptz) is
    'What is due for the account at p_at, done in memory: the account''s row as it would be, '
    'ledger rows to append, grants (new ones included) and debts as they would be, and holds that '
    'have lapsed. Writes nothing.';

create or replace function pgsaas.project_account(p_b pgsaas.account_balances)
returns pgsaas.account_balances
language plpgsql stable
as $$
declare
    v_plan record;
begin
    if p_b.next_change_at > greatest(pgsaas.now(), p_b.last_at) then
        return p_b;
    end if;
    select * into v_plan from pgsaas.plan_settlement(p_b, greatest(pgsaas.now(), p_b.last_at));
    p_b := v_plan.settled;
    p_b.head_grant_id := null;
    p_b.head_source := null;
    p_b.head_left := 0;
    select coalesce(min(g.expires_at), 'infinity') into p_b.next_expiry_at
        from unnest(v_plan.grants) g where g.is_open;
    select coalesce(jsonb_object_agg(s.source, s.free), '{}') into p_b.other_free
      from (select g.source, trim_scale(sum(g.remaining)) as free from unnest(v_plan.grants) g
             where g.is_open group by g.source) s;
    return p_b;
end $$;
comment on function pgsaas.project_account(pgsaas.account_balances) is
    'The account''s row as it would be if somebody settled it now; its head is then counted in '
    'other_free.';

create or replace function pgsaas.is_settled(p_b pgsaas.account_balances) returns boolean
language plpgsql stable
as $$
begin
    return p_b.next_change_at > greatest(pgsaas.now(), p_b.last_at);
end $$;
comment on function pgsaas.is_settled(pgsaas.account_balances) is
    'Whether nothing is due at the account''s own time; never of a frozen one.';

create or replace function pgsaas.head_floor(p_b pgsaas.account_balances) returns numeric
language sql immutable parallel safe
as $$
    select case when p_b.balance - p_b.held >= p_b.low_balance_at then
        greatest(0, p_b.head_left - (p_b.balance - p_b.held - p_b.low_balance_at)) else 0 end
$$;
comment on function pgsaas.head_floor(pgsaas.account_balances) is
    'As far as the head may fall before the alert of a low balance is due.';
