-- Settlement: what time has done to an account, worked out without writing anything.
--
-- This is the one place that decides what happens when a hold lapses, a period ends, a grant
-- expires or takes effect, and what becomes of credits that return from a hold or a refund. Writers
-- apply its answer (30_ledger), readers show it (37_reads): so being late is harmless, and a
-- replica tells the truth.
--
-- Events are handled in time order; on a tie lapse, reset, expire, admit. The rules:
-- * Free credits and owed never coexist: whatever becomes free pays what is owed first.
-- * A returning part whose grant has expired is gone if it was held (an expiry row), as far as a
--   revocation has not taken its like already. What remains of it, and what was refunded, lives in
--   a new grant for the time it had left when it was taken, at most until the next reset. A hold
--   that lapses just when its grants end lapses first: what returns then may still roll over.
-- * Overdraft that is given back after it was paid returns to the grants that paid it: debts are
--   taken to be paid in the order in which they were made.
-- * A returning part whose grant was revoked without recovery is taken back before it becomes free.
-- * At the end of a period free credits of its own grants roll over up to the limit, the newest
--   first; the rest expires.
-- * Credits that go on in a new grant, by rollover or a late refund, count as moved on the old one,
--   and the new one names the grant they were first part of: a revocation finds them there. Of what
--   rolls over only the twelve newest grants are told apart; older credits go on together, out of
--   its reach, so that an account where everything rolls over does not carry all its past along.
--
-- The account's row must be locked by writers; readers take what their snapshot holds. Grants and
-- holds are read with the caller's rights, so a reader sees nothing that row security hides.

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
           and not g.is_open and not g.is_pending
        union all    -- whose credits paid what was overdraft (part 0)
        select * from pgsaas.credit_grants g
         where 0 = any (p_part_ids) and g.account_id = p_b.account_id and g.paid > 0
           and not g.is_open and not g.is_pending and g.grant_id <> all (p_part_ids)) x;
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

-- Parts are [[grant_id, amount], ...]. Without p_taken_at they return from the hold p_hold_id, with
-- it from a refund of something taken at that time; either way at p_at, after everything that is
-- due.
create or replace function pgsaas.plan_settlement(
    p_b pgsaas.account_balances, p_at timestamptz, p_parts jsonb default null,
        p_hold_id bigint default null,
    p_taken_at timestamptz default null, out settled pgsaas.account_balances,
    out new_rows pgsaas.credit_transactions[], out grants pgsaas.credit_grants[],
        out lapsed bigint[])
language plpgsql stable
as $$
declare
    v_event record;
    v_part_ids bigint[];
    v_part_amounts numeric[];
    v_n integer;
    v_at timestamptz;
    v_i integer;
    v_is_over boolean;
    v_left numeric;
    v_pays numeric;
    v_free numeric;
    v_ends timestamptz;
    v_ids bigint[];
    v_handed record;
    v_payer integer;
    v_order integer[];
    v_is_short boolean;
    v_done_at timestamptz := '-infinity'::timestamptz;
    v_done_place integer := -1;
    v_done_id bigint := 0::bigint;
    v_rolls numeric[];
    v_periods integer := 0;
begin
    settled := p_b;
    new_rows := '{}';
    lapsed := '{}';
    grants := pgsaas.grants_to_settle(p_b, array(
        select (x ->> 0)::bigint from jsonb_array_elements(p_parts) x
        union all
        select (x ->> 0)::bigint
          from pgsaas.credit_holds h, jsonb_array_elements(h.allocations) x
         where h.account_id = p_b.account_id and h.state = 'open' and h.expires_at <= p_at));
    v_ids := array(select g.grant_id from unnest(grants) with ordinality g order by g.ordinality);
    if p_b.next_reset_at <= p_at then    -- no period is shorter than 28 days
        v_periods := least(1200, 1 + floor(extract(epoch from p_at - p_b.next_reset_at)
            / (28 * 86400)));
    end if;
    loop    -- again from where it was, when a grant was made that ends within this settlement
        v_is_short := false;
        for v_event in
            select e.what, e.at, e.place, e.id, e.parts, e.taken_at from (
                select 0 as place, 'lapse' as what, h.expires_at as at, h.hold_id as id,
                    h.allocations as parts, h.created_at as taken_at
                  from pgsaas.credit_holds h
                 where h.account_id = p_b.account_id and h.state = 'open' and h.expires_at <= p_at
                union all
                select 1, 'reset', pgsaas.period_end(p_b.period_anchor, n), n::bigint, null, null
                  from generate_series(p_b.period_count + 1, p_b.period_count + v_periods) n
                 where pgsaas.period_end(p_b.period_anchor, n) <= p_at
                union all
                select 2, 'expire', g.expires_at, g.grant_id, null, null from unnest(grants) g
                    where g.expires_at <= p_at
                union all
                select 3, 'admit', g.effective_at, g.grant_id, null, null from unnest(grants) g
                 where g.is_pending and g.effective_at <= p_at
                union all
                select 4, 'return', p_at, p_hold_id, p_parts, coalesce(p_taken_at, (
                       select h.created_at from pgsaas.credit_holds h
                        where h.account_id = p_b.account_id and h.hold_id = p_hold_id))
                 where p_parts is not null) e
             where (e.at, e.place, coalesce(e.id, 0)) > (v_done_at, v_done_place, v_done_id)
             order by e.at, e.place, e.id
        loop
            v_at := greatest(v_event.at, p_b.last_at);
            if v_event.what in ('lapse', 'return') then
                if v_event.what = 'lapse' then
                    lapsed := lapsed || v_event.id;
                    settled.held := settled.held - (select sum((x ->> 1)::numeric)
                        from jsonb_array_elements(v_event.parts) x);
                end if;
                select array_agg((x ->> 0)::bigint order by n),
                       array_agg((x ->> 1)::numeric order by n)
                  into v_part_ids, v_part_amounts
                  from jsonb_array_elements(v_event.parts) with ordinality p (x, n);
                v_n := 0;
                while v_n < cardinality(v_part_ids) loop
                    v_n := v_n + 1;
                    v_left := v_part_amounts[v_n];
                    v_i := array_position(v_ids, v_part_ids[v_n]);
                    if v_part_ids[v_n] > p_b.grant_count then    -- made below, in the order of ids
                        v_i := cardinality(v_ids) + v_part_ids[v_n] - p_b.grant_count;
                    end if;
                    v_is_over := v_i is not null and (grants[v_i].expires_at < v_at
                        or grants[v_i].expires_at = v_at and v_event.what = 'return');
                    if v_is_over and p_taken_at is null then
                        v_pays := least(v_left, greatest(0, grants[v_i].amount - grants[v_i].revoked
                            - grants[v_i].moved - grants[v_i].expired - grants[v_i].remaining));
                        if v_pays > 0 then
                            new_rows := new_rows || pgsaas.new_row('expiry', -v_pays, v_at,
                                v_part_ids[v_n], v_event.id);
                            grants[v_i] := pgsaas.expired_grant(grants[v_i], v_pays);
                            v_left := v_left - v_pays;
                        end if;
                    end if;
                    if grants[v_i].unrecovered > 0 then
                        v_pays := least(v_left, grants[v_i].unrecovered);
                        grants[v_i].unrecovered := grants[v_i].unrecovered - v_pays;
                        v_left := v_left - v_pays;
                        new_rows := new_rows || pgsaas.new_row('revoke', -v_pays, v_at,
                            v_part_ids[v_n], v_event.id);
                    end if;
                    if v_is_over and v_left > 0 then
                        v_ends := least(settled.next_reset_at, v_at + pgsaas.exact_interval(
                            grants[v_i].expires_at - least(grants[v_i].expires_at,
                                greatest(v_event.taken_at, grants[v_i].effective_at))));
                        if v_ends > v_at then
                            v_handed := pgsaas.hand_on(settled, grants[v_i], 'refund', v_left, v_at,
                                v_ends);
                            settled := v_handed.p_b;
                            grants[v_i] := v_handed.p_old;
                            grants := grants || v_handed.p_new;
                            v_is_short := v_is_short or v_ends <= p_at;
                            continue;
                        end if;
                    end if;
                    v_pays := least(v_left, settled.owed);
                    settled.owed := settled.owed - v_pays;
                    v_left := v_left - v_pays;
                    if v_i is not null then
                        grants[v_i].paid := grants[v_i].paid + v_pays;
                    end if;
                    if v_left = 0 then
                        continue;
                    elsif v_is_over then
                        new_rows := new_rows || pgsaas.new_row('expiry', -v_left, v_at,
                            v_part_ids[v_n], v_event.id);
                        grants[v_i] := pgsaas.expired_grant(grants[v_i], v_left);
                    elsif v_i is not null then
                        grants[v_i].remaining := grants[v_i].remaining + v_left;
                        grants[v_i].is_open := true;
                    else
                        -- overdraft that was paid since: back to the first who came after it,
                        -- then to those before, the last first
                        for v_payer in
                            select g.ordinality::integer
                              from unnest(grants) with ordinality g
                             where g.paid > 0
                             order by g.effective_at < v_event.taken_at,
                                   case when g.effective_at < v_event.taken_at
                                       then -g.grant_id else g.grant_id end
                        loop
                            v_pays := least(v_left, grants[v_payer].paid);
                            if v_pays > 0 then
                                grants[v_payer].paid := grants[v_payer].paid - v_pays;
                                v_left := v_left - v_pays;
                                v_part_ids := v_part_ids || grants[v_payer].grant_id;
                                v_part_amounts := v_part_amounts || v_pays;
                            end if;
                        end loop;
                        if v_left > 0 then
                            grants := grants || pgsaas.new_grant(settled, 'refund', v_left, v_left,
                                v_at, 'infinity');
                            settled.grant_count := settled.grant_count + 1;
                        end if;
                    end if;
                end loop;
            elsif v_event.what = 'expire' then
                v_i := array_position(v_ids, v_event.id);
                if v_event.id > p_b.grant_count then
                    v_i := cardinality(v_ids) + v_event.id - p_b.grant_count;
                end if;
                if grants[v_i].remaining > 0 then
                    new_rows := new_rows || pgsaas.new_row('expiry', -grants[v_i].remaining, v_at,
                        v_event.id);
                    grants[v_i] := pgsaas.expired_grant(grants[v_i]);
                end if;
            elsif v_event.what = 'admit' then
                v_i := array_position(v_ids, v_event.id);
                v_left := grants[v_i].remaining;
                v_pays := least(v_left, settled.owed);
                settled.owed := settled.owed - v_pays;
                grants[v_i].is_pending := false;
                grants[v_i].paid := grants[v_i].paid + v_pays;
                grants[v_i].remaining := v_left - v_pays;
                grants[v_i].is_open := v_left > v_pays;
                new_rows := new_rows || pgsaas.new_row('grant', v_left, v_at, v_event.id);
            else
                v_free := 0;
                v_left := settled.rollover_limit;    -- null: all of it
                v_rolls := '{}';
                v_order := array(
                    select g.ordinality::integer from unnest(grants) with ordinality g
                     where g.is_open and g.expires_at = settled.next_reset_at
                       and g.source in ('allowance', 'rollover')
                     order by g.acquired_at desc, g.grant_id desc);
                settled.period_count := settled.period_count + 1;
                settled.period_granted := settled.allowance;
                settled.next_reset_at := pgsaas.period_end(settled.period_anchor,
                    settled.period_count + 1);
                foreach v_i in array v_order loop
                    v_pays := least(grants[v_i].remaining, v_left);
                    v_left := v_left - v_pays;
                    v_free := v_free + grants[v_i].remaining - v_pays;
                    v_rolls := v_rolls || v_pays;
                end loop;
                v_pays := (select sum(r.amount) from unnest(v_rolls[13:]) r (amount));
                if v_pays > 0 then
                    grants := grants || pgsaas.new_grant(settled, 'rollover', v_pays, v_pays, v_at,
                        settled.next_reset_at);
                    settled.grant_count := settled.grant_count + 1;
                    grants[cardinality(grants)].acquired_at :=
                        grants[v_order[cardinality(v_order)]].acquired_at;
                end if;
                for v_n in reverse cardinality(v_order) .. 1 loop
                    v_i := v_order[v_n];
                    if v_n <= 12 and v_rolls[v_n] > 0 then
                        v_handed := pgsaas.hand_on(settled, grants[v_i], 'rollover', v_rolls[v_n],
                            v_at, settled.next_reset_at);
                        settled := v_handed.p_b;
                        grants[v_i] := v_handed.p_old;
                        grants[v_i].remaining := grants[v_i].remaining - v_rolls[v_n];
                        grants := grants || v_handed.p_new;
                    end if;
                    grants[v_i] := pgsaas.expired_grant(grants[v_i]);
                end loop;
                if v_free > 0 then
                    new_rows := new_rows || pgsaas.new_row('expiry', -v_free, v_at);
                end if;
                if settled.allowance > 0 then
                    v_pays := least(settled.allowance, settled.owed);
                    settled.owed := settled.owed - v_pays;
                    grants := grants || pgsaas.new_grant(settled, 'allowance', settled.allowance,
                        settled.allowance - v_pays, v_at, settled.next_reset_at);
                    settled.grant_count := settled.grant_count + 1;
                    new_rows := new_rows || pgsaas.new_row('grant', settled.allowance, v_at,
                        settled.grant_count);
                end if;
            end if;
            v_done_at := v_event.at;
            v_done_place := v_event.place;
            v_done_id := coalesce(v_event.id, 0);
            exit when v_is_short;
        end loop;
        exit when not v_is_short;
    end loop;
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
    'ledger rows to append, grants as they would be (new ones included) and holds that have '
    'lapsed. Writes nothing.';

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
