-- Periods: how an account comes to have a monthly allowance.
--
-- Terms are an allowance, how much of it may roll over, and a burn order. The caller need not lock:
-- each function here locks the account, settles it, takes effect and stores the balance, as every
-- writer does (30_ledger). What happens at a period's end is decided by 29_settlement and posted by
-- whoever touches the account next; the rooms of subscriptions call these and nothing else of the
-- ledger's.
--
-- Within a period nothing is granted twice: period_granted remembers the highest allowance of the
-- period, and a raise grants what is above it. So a circle between plans grants nothing.

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

create or replace function pgsaas.amount_left(
    p_b pgsaas.account_balances, p_amount numeric, p_trial_from timestamptz)
returns numeric
language sql immutable parallel safe
as $$
    select trim_scale(div(p_amount * 1000000 * least(t.whole,
               extract(epoch from p_b.next_reset_at - p_b.last_at)), t.whole) / 1000000)
      from (select extract(epoch from p_b.next_reset_at - case
                when p_b.period_count < 0 then p_trial_from
                else pgsaas.period_end(p_b.period_anchor, p_b.period_count) end)) t (whole)
$$;
comment on function pgsaas.amount_left(pgsaas.account_balances, numeric, timestamptz) is
    'What of an amount is for the time that a settled account''s period has left (a trial''s, '
    'where it is in one, which began then): truncated to 6 decimals, exactly.';

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

create or replace function pgsaas.raise_amount(
    p_b pgsaas.account_balances, p_allowance numeric, p_replaces boolean, p_in_full numeric,
    p_trial_from timestamptz)
returns numeric
language sql immutable parallel safe
as $$
    select case when p_allowance > p_b.period_granted then r.full - r.had
               + pgsaas.amount_left(p_b, p_allowance - r.full, p_trial_from) else 0 end
      from (select h.had, greatest(h.had, coalesce(p_in_full, p_allowance)) as full
              from (select case when p_replaces then 0 else p_b.period_granted end) h (had)) r
$$;
comment on function pgsaas.raise_amount(pgsaas.account_balances, numeric, boolean, numeric,
    timestamptz) is
    'What another allowance grants a settled account within its period: up to p_in_full (null: '
    'all) for the whole period, the rest for the time it has left.';

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
    p_in_full numeric default null, p_trial_from timestamptz default null)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    v_more numeric;
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
    v_more := pgsaas.raise_amount(v_b, v_b.allowance, p_replaces, p_in_full, p_trial_from);
    if v_b.allowance > v_b.period_granted then
        v_b.period_granted := v_b.allowance;
        if p_replaces then
            v_b := pgsaas.expire_allowance(v_b);
        end if;
        v_b := pgsaas.grant_allowance(v_b,
            case when v_b.period_count < 0 then 'trial' else 'allowance' end, v_more);
    end if;
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.change_allowance(uuid, numeric, numeric, text, boolean, numeric,
    timestamptz) is
    'Changes the terms: the allowance from the next period on, and until no end. What it is above '
    'the highest allowance of this period is granted now until the period''s end: what is above '
    'p_in_full (null: nothing) only for the time that is left, of a trial since p_trial_from; or '
    'p_replaces: what the plan gave goes, and all of the new allowance comes. A lower one takes '
    'nothing. PT404 for no account, PT409 without a period.';

create or replace function pgsaas.settle_period(p_account_id uuid) returns boolean
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
begin
    perform pgsaas.store_balance(v_b);
    return v_b.period_anchor is not null;
end $$;
comment on function pgsaas.settle_period(uuid) is
    'Brings the account up to its own time, and says whether periods of it run then.';

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
