-- Periods: how an account comes to have a monthly allowance.
--
-- Terms are an allowance, how much of it may roll over, and a burn order. The caller need not lock:
-- each function here locks the account, settles it, takes effect and stores the balance, as every
-- writer does (30_ledger). What happens at a period's end is decided by 29_settlement and posted by
-- whoever touches the account next; the rooms of subscriptions call these and nothing else of the
-- ledger's.
--
-- Within a period nothing is granted twice. Of each credit of an allowance the row knows since when
-- it was granted: period_granted since the period's start, unless period_raises says otherwise. A
-- raise grants each credit for as much more of the period as it brings. So no way from one plan to
-- another grants more than the plans on it, and a circle grants nothing.

create or replace function pgsaas.expire_allowance(inout p_b pgsaas.account_balances)
language plpgsql volatile
as $$
declare
    v_gone numeric;
begin
    with gone as (
        select g.grant_id, g.remaining from pgsaas.credit_grants g
         where g.account_id = p_b.account_id and g.is_open
           and g.source in ('allowance', 'rollover', 'trial')),
    closed as (
        update pgsaas.credit_grants g
           set expired = least(g.expired + g.remaining, g.amount - g.revoked - g.moved),
               remaining = 0, is_open = false
          from gone x
         where g.account_id = p_b.account_id and g.grant_id = x.grant_id)
    select sum(x.remaining) into v_gone from gone x;
    if v_gone > 0 then
        p_b := pgsaas.append_row(p_b, pgsaas.new_row('expiry', -v_gone, p_b.last_at));
    end if;
end $$;
comment on function pgsaas.expire_allowance(pgsaas.account_balances) is
    'Ends the free credits of a settled account that its plan gave: packs and gifts stay.';

create or replace function pgsaas.grant_allowance(
    inout p_b pgsaas.account_balances, p_source text, p_amount numeric)
language plpgsql volatile
as $$
begin
    if p_amount > 0 then
        p_b := pgsaas.open_grant(p_b, p_source, p_amount, p_b.next_reset_at);
        p_b := pgsaas.append_row(p_b, pgsaas.new_row('grant', p_amount, p_b.last_at,
            p_b.grant_count));
    end if;
end $$;
comment on function pgsaas.grant_allowance(pgsaas.account_balances, text, numeric) is
    'Grants a settled account credits until the end of its period.';

-- An allowance is granted in steps: its credits up to p_in_full since the period's start, those
-- above it since now. Where steps overlap, a credit counts as granted since the earlier time.
create or replace function pgsaas.raise_allowance(
    p_b pgsaas.account_balances, p_allowance numeric, p_replaces boolean, p_in_full numeric,
    p_units integer, p_trial_from timestamptz,
    out p_granted numeric, out p_is_replaced boolean, out p_raises jsonb)
language plpgsql stable
as $$
declare
    v_start constant timestamptz := coalesce((p_b.period_raises ->> 'start')::timestamptz,
        case when p_b.period_count < 0 then p_trial_from
             else pgsaas.period_end(p_b.period_anchor, p_b.period_count) end);
    v_had constant jsonb := coalesce(p_b.period_raises -> 'steps',
        jsonb_build_array(jsonb_build_object('upto', p_b.period_granted, 'since', v_start)));
    v_in_full constant numeric := least(p_allowance, coalesce(p_in_full, case
        when (v_had #>> '{-1,since}')::timestamptz = v_start then p_allowance else 0 end));
    v_was_replaced constant boolean := coalesce(p_b.period_raises ? 'is_replaced', false);
    v_sums record;
begin
    if num_nonnulls(p_b.period_raises, p_in_full, p_units) = 0 and not p_replaces then
        p_granted := greatest(v_in_full - p_b.period_granted, 0);
        p_is_replaced := false;
        return;
    end if;
    with step as (
        select s.upto, s.since, true as is_had
          from jsonb_to_recordset(v_had) s (upto numeric, since timestamptz)
        union all values (v_in_full, v_start, false), (p_allowance, p_b.last_at, false)),
    part as (
        select x.upto, x.size, min(s.since) as since, min(s.since) filter (where s.is_had) as had,
               min(s.since) filter (where not s.is_had) as new
          from (select t.upto, t.upto - coalesce(lag(t.upto) over (order by t.upto), 0) as size
                  from (select distinct upto from step) t) x
          join step s on s.upto >= x.upto
         group by x.upto, x.size),
    merged as (select p.since, max(p.upto) as upto from part p group by p.since)
    select (select sum(p.size * extract(epoch from coalesce(p.had, p_b.next_reset_at) - p.since))
              from part p) as more,
           (select sum(p.size * extract(epoch from p_b.next_reset_at - p.new))
              from part p) as anew,
           (select jsonb_agg(to_jsonb(m) order by m.upto) from merged m) as steps
      into v_sums;
    p_is_replaced := p_replaces and not v_was_replaced and v_sums.more > 0;
    p_granted := trim_scale(div(1000000 * case when p_is_replaced then v_sums.anew
        else v_sums.more end, extract(epoch from p_b.next_reset_at - v_start)) / 1000000);
    p_raises := jsonb_strip_nulls(jsonb_build_object('start', v_start,
        'units', coalesce(p_units, (p_b.period_raises ->> 'units')::integer),
        'is_replaced', nullif(p_is_replaced or v_was_replaced, false), 'steps', v_sums.steps));
end $$;
comment on function pgsaas.raise_allowance(pgsaas.account_balances, numeric, boolean, numeric,
    integer, timestamptz) is
    'What another allowance grants a settled account within its period, exactly, truncated to 6 '
    'decimals: up to p_in_full (null: all of it, unless a part came later in the period before) '
    'for the whole period, the rest for the time that it has left; of a trial, which began at '
    'p_trial_from. p_replaces lets it replace what the plan gave, once in a period. p_raises is '
    'what the row has to remember, with p_units as those that are granted for the whole period.';

create or replace function pgsaas.start_period(
    p_account_id uuid, p_allowance numeric, p_rollover_limit numeric default 0,
    p_anchor timestamptz default null, p_burn_order text default null,
    p_trial_ends_at timestamptz default null, p_replaces boolean default null)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
begin
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    elsif v_b.period_anchor is not null and p_replaces is null then
        raise exception 'the account has a period already' using errcode = 'PT409';
    end if;
    if p_replaces then
        v_b := pgsaas.expire_allowance(v_b);
    end if;
    v_b.allowance := trim_scale(p_allowance);
    v_b.period_granted := v_b.allowance;
    v_b.period_raises := null;
    v_b.rollover_limit := trim_scale(p_rollover_limit);
    v_b.burn_order := coalesce(p_burn_order, v_b.burn_order);
    v_b.terms_end_at := null;
    v_b.next_terms := null;
    v_b.period_anchor := coalesce(p_trial_ends_at, p_anchor, v_b.last_at);
    v_b.period_count := case when p_trial_ends_at is null then 0 else -1 end;
    while pgsaas.period_end(v_b.period_anchor, v_b.period_count + 1) <= v_b.last_at loop
        v_b.period_count := v_b.period_count + 1;
    end loop;
    v_b.next_reset_at := pgsaas.period_end(v_b.period_anchor, v_b.period_count + 1);
    v_b := pgsaas.grant_allowance(v_b,
        case when p_trial_ends_at is null then 'allowance' else 'trial' end, v_b.allowance);
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.start_period(uuid, numeric, numeric, timestamptz, text, timestamptz,
    boolean) is
    'Starts monthly periods, counted from p_anchor (null: now), with this allowance, rollover '
    'limit (null: none) and burn order (null: as it is), and grants the first allowance; with '
    'p_trial_ends_at the first period is a trial until then. Where the account has periods, '
    'p_replaces says whether the credits of its plan go or stay to their end; null: PT409. PT404 '
    'for no account.';

create or replace function pgsaas.change_allowance(
    p_account_id uuid, p_allowance numeric, p_rollover_limit numeric default 0,
    p_burn_order text default null, p_replaces boolean default false,
    p_in_full numeric default null, p_units integer default null,
    p_trial_from timestamptz default null)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    v_raised record;
begin
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    elsif v_b.period_anchor is null then
        raise exception 'the account has no period yet' using errcode = 'PT409';
    end if;
    v_b.allowance := trim_scale(p_allowance);
    v_b.rollover_limit := trim_scale(p_rollover_limit);
    v_b.burn_order := coalesce(p_burn_order, v_b.burn_order);
    v_b.terms_end_at := null;
    v_b.next_terms := null;
    v_raised := pgsaas.raise_allowance(v_b, v_b.allowance, p_replaces, p_in_full, p_units,
        p_trial_from);
    v_b.period_granted := greatest(v_b.period_granted, v_b.allowance);
    v_b.period_raises := v_raised.p_raises;
    if v_raised.p_is_replaced then
        v_b := pgsaas.expire_allowance(v_b);
    end if;
    v_b := pgsaas.grant_allowance(v_b, case when v_b.period_count < 0 then 'trial'
        else 'allowance' end, v_raised.p_granted);
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.change_allowance(uuid, numeric, numeric, text, boolean, numeric,
    integer, timestamptz) is
    'Changes the terms: the allowance from the next period on, and until no end. What it brings '
    'beyond what this period has granted comes now (raise_allowance), until the period''s end; or, '
    'with p_replaces, once in a period, what the plan gave goes and all of the new allowance '
    'comes. A lower one takes nothing. PT404 for no account, PT409 without a period.';

create or replace function pgsaas.settle_period(p_account_id uuid)
returns pgsaas.account_balances
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
begin
    perform pgsaas.store_balance(v_b);
    return v_b;
end $$;
comment on function pgsaas.settle_period(uuid) is
    'Brings the account up to its own time. Where no periods of it run, period_anchor is null.';

create or replace function pgsaas.schedule_terms(
    p_account_id uuid, p_at timestamptz, p_allowance numeric, p_rollover_limit numeric default 0,
    p_burn_order text default null, p_before jsonb default null)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    v_terms jsonb;
begin
    if p_allowance is not null then
        v_terms := jsonb_build_object('allowance', trim_scale(p_allowance),
            'rollover_limit', trim_scale(p_rollover_limit), 'burn_order', p_burn_order);
    end if;
    if p_before is not null then
        v_terms := p_before || jsonb_build_object('then',
            jsonb_build_object('at', p_at) || coalesce(v_terms, '{}'));
    end if;
    v_b.terms_end_at := coalesce((p_before ->> 'at')::timestamptz, p_at);
    v_b.next_terms := jsonb_strip_nulls(v_terms - 'at');
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.schedule_terms(uuid, timestamptz, numeric, numeric, text, jsonb) is
    'Lets other terms follow at the first end of a period from p_at on; without an allowance no '
    'period follows. p_before are terms for the time between: at, allowance, rollover_limit and '
    'burn_order.';
