-- Subscribing: a subscription starts, or gets another plan, interval, quantity or contract.
--
-- Each act locks the account, stores what time has made of its subscription, checks what is asked
-- for, changes the subscription, and lets the ledger know (49_subscriptions). What cannot be raises
-- and changes nothing: PT409 where another subscription is in the way, PT422 where its state does
-- not allow it.
--
-- A subscription that is started begins a period of its own with all of its allowance. But where an
-- earlier one has ended in the month that runs, and was paid for longer, another that starts then
-- goes on in that month and grants only what it has not: so starting and canceling in circles
-- grants nothing.

create or replace function pgsaas.check_subscription(p_s pgsaas.subscriptions) returns void
language plpgsql immutable
as $$
begin
    if p_s.account_id is null or p_s.ended_at is not null then
        raise exception 'the account has no subscription' using errcode = 'PT422';
    elsif p_s.provider = 'default' then
        raise exception 'the account is on the default plan' using errcode = 'PT422',
            hint = 'start_subscription() gives it another.';
    end if;
end $$;
comment on function pgsaas.check_subscription(pgsaas.subscriptions) is
    'Raises PT422 unless there is a live subscription that somebody started.';

create or replace function pgsaas.is_default(p_s pgsaas.subscriptions) returns boolean
language sql immutable parallel safe
as $$ select p_s.account_id is not null and p_s.ended_at is null and p_s.provider = 'default' $$;
comment on function pgsaas.is_default(pgsaas.subscriptions) is
    'Whether this is the default plan that an account has without another.';

-- What start_subscription() makes of the plan that is asked for; another in place of p_was.
create or replace function pgsaas.chosen_plan(
    p_was pgsaas.subscriptions, p_plan_id text, p_interval text, p_quantity integer,
    p_allowance numeric, p_currency text, p_unit_amount bigint, p_is_trial boolean)
returns pgsaas.subscriptions
language plpgsql stable
as $$
declare
    v_s pgsaas.subscriptions;
begin
    v_s := pgsaas.choose_plan(v_s, p_plan_id, p_interval, p_quantity, p_allowance, p_currency,
        p_unit_amount);
    if pgsaas.is_default(p_was) and p_was.plan_id = v_s.plan_id and not p_is_trial
       and v_s.quantity = p_was.quantity and v_s.allowance is null
       and coalesce(v_s.unit_amount, 0) = 0 then
        raise exception 'the account has the plan "%"', p_plan_id using errcode = 'PT409',
            hint = 'It is the default plan.';
    end if;
    return v_s;
end $$;
comment on function pgsaas.chosen_plan(pgsaas.subscriptions, text, text, integer, numeric, text,
    bigint, boolean) is
    'A new subscription by the plan''s current version. PT409 for what the account has as its '
    'default; PT404, PT422, 22023.';

create or replace function pgsaas.goes_on(p_b pgsaas.account_balances, p_at timestamptz)
returns boolean
language sql stable
as $$
    select exists (
        select from pgsaas.subscriptions x
         where x.account_id = p_b.account_id and x.provider <> 'default'
           and x.ended_at >= pgsaas.period_end(p_b.period_anchor, p_b.period_count)
           and pgsaas.paid_until(x) > p_at)
$$;
comment on function pgsaas.goes_on(pgsaas.account_balances, timestamptz) is
    'Whether a subscription that starts goes on in the month of one that has ended in it and was '
    'paid for longer: going in circles grants nothing. The account is settled.';

create or replace function pgsaas.start_subscription(
    p_account_id uuid, p_plan_id text, p_interval text default 'month',
    p_quantity integer default 1, p_is_trial boolean default false,
    p_allowance numeric default null, p_currency text default null,
    p_unit_amount bigint default null, p_anchor timestamptz default null)
returns table (account_id uuid, subscription_id bigint, plan_id text, plan_version integer,
    plan_name text, rank integer, status text, has_access boolean, provider text,
    billing_interval text, quantity integer, monthly_allowance numeric, currency text,
    unit_amount bigint, started_at timestamptz, current_period_start timestamptz,
    current_period_end timestamptz, trial_ends_at timestamptz, cancel_at_period_end boolean,
    canceled_at timestamptz, ended_at timestamptz, change_at timestamptz, next_plan jsonb)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_settled record;
    v_was pgsaas.subscriptions;
    v_s pgsaas.subscriptions;
    v_at timestamptz;
    v_b pgsaas.account_balances;
    v_goes_on boolean;
    v_trial_days integer;
    v_terms record;
begin
    perform pgsaas.check_system();
    v_settled := pgsaas.settle_subscription(p_account_id);
    v_was := v_settled.p_s;
    v_at := v_settled.p_at;
    if exists (select from pgsaas.accounts a
                where a.account_id = p_account_id and a.erased_at is not null) then
        raise exception 'the account was erased' using errcode = 'PT422';
    elsif v_was.ended_at is null and v_was.provider <> 'default' then
        raise exception 'the account has a subscription to "%"', v_was.plan_id
            using errcode = 'PT409', hint = 'change_plan() changes it.';
    elsif p_anchor > v_at or p_anchor < '0001-01-02' then
        raise exception 'periods are counted from a time that has come' using errcode = '22023';
    end if;
    v_s := pgsaas.chosen_plan(v_was, p_plan_id, p_interval, p_quantity, p_allowance, p_currency,
        p_unit_amount, p_is_trial);
    v_s.account_id := p_account_id;
    v_s.subscription_id := coalesce(v_was.subscription_id, 0) + 1;
    v_s.provider := 'manual';
    v_s.status := 'active';
    v_s.started_at := v_at;
    v_s.expires_with_trial := false;
    if p_is_trial then
        select v.trial_days into v_trial_days from pgsaas.plan_versions v
         where v.plan_id = v_s.plan_id and v.version = v_s.plan_version;
        if v_trial_days = 0 then
            raise exception 'the plan "%" has no trial', p_plan_id using errcode = 'PT422';
        elsif exists (select from pgsaas.subscriptions x
                       where x.account_id = p_account_id and x.provider <> 'default')
              or exists (select from pgsaas.erased_subjects e
                          where e.subject_hash = any (pgsaas.person_hashes(p_account_id))) then
            raise exception 'a trial is for accounts that have had no subscription'
                using errcode = 'PT422';
        end if;
        v_s.status := 'trialing';
        v_s.trial_ends_at := v_at + make_interval(secs => 86400 * v_trial_days);
        v_s.expires_with_trial := true;
    end if;
    if v_was.ended_at is null and v_was.account_id is not null then
        perform pgsaas.close_subscription(v_was, 'canceled', v_at);
    end if;
    v_terms := pgsaas.plan_terms(v_s);
    v_b := pgsaas.settle_period(p_account_id);
    v_goes_on := pgsaas.goes_on(v_b, v_at);
    v_s.period_anchor := coalesce(case when v_goes_on then v_b.period_anchor end,
        v_s.trial_ends_at, p_anchor, v_at);
    v_s.period_offset := pgsaas.months_since(v_s.period_anchor, v_at);
    if v_s.trial_ends_at is not null then
        v_s.period_offset := 0;
    end if;
    perform pgsaas.store_subscription(v_s);
    if v_goes_on then
        perform pgsaas.apply_terms(v_s, v_terms.on_upgrade = 'replace', v_terms.allowance,
            greatest(pgsaas.units_in_full(v_b, 0), v_s.quantity));
    else
        perform pgsaas.start_period(p_account_id, v_terms.allowance, v_terms.rollover_limit,
            v_s.period_anchor, v_terms.burn_order, v_s.trial_ends_at,
            v_terms.on_upgrade = 'replace');
        perform pgsaas.apply_terms(v_s);
    end if;
    if v_s.unit_amount > 0 and v_s.trial_ends_at is null then
        perform pgsaas.earn_referral(p_account_id);
    end if;
    perform pgsaas.audit('subscription.started', p_account_id, jsonb_build_object('plan',
        v_s.plan_id, 'quantity', v_s.quantity, 'trial_ends_at', v_s.trial_ends_at));
    return query select * from pgsaas.get_subscription(p_account_id);
end $$;
comment on function pgsaas.start_subscription(uuid, text, text, integer, boolean, numeric, text,
    bigint, timestamptz) is
    'Starts a subscription to a plan''s current version, in place of the default one, and grants '
    'its first allowance. p_interval (month or year) is what one payment covers, credits come by '
    'the month; p_quantity multiplies them. With p_is_trial it runs for the plan''s trial_days and '
    'expires then unless set_subscription_status() says it was paid for; once per account, not '
    'for a person who was erased before. A contract may have its own p_allowance and '
    'p_unit_amount. p_anchor: a time in the past that periods are counted from, such as the first '
    'of a month. The price is the plan''s for the interval and currency. PT404 for no account or '
    'plan, PT409 where a subscription runs, PT422 for a retired plan, a missing price or a trial '
    'that cannot be, 22023. Only the system: PT403.';

create or replace function pgsaas.plan_change(
    p_s pgsaas.subscriptions, p_at timestamptz, p_new pgsaas.subscriptions,
    p_at_period_end boolean, out p_is_upgrade boolean, out p_change_at timestamptz)
language plpgsql stable
as $$
declare
    v_was constant record := pgsaas.plan_terms(p_s);
    v_is constant record := pgsaas.plan_terms(p_new);
begin
    p_is_upgrade := v_is.rank > v_was.rank or v_is.rank = v_was.rank
        and v_is.allowance >= v_was.allowance
        and not (p_s.billing_interval = 'year' and p_new.billing_interval = 'month');
    p_change_at := case when coalesce(p_at_period_end, not p_is_upgrade)
        then (pgsaas.subscription_period(p_s, p_at)).period_end else p_at end;
end $$;
comment on function pgsaas.plan_change(pgsaas.subscriptions, timestamptz, pgsaas.subscriptions,
    boolean) is
    'Whether a change is an upgrade (a higher rank, or as many credits in as long an interval), '
    'and when it happens.';

create or replace function pgsaas.is_replacing(
    p_s pgsaas.subscriptions, p_new pgsaas.subscriptions)
returns boolean
language sql stable
as $$ select p_new.plan_id <> p_s.plan_id and (pgsaas.plan_terms(p_new)).on_upgrade = 'replace' $$;
comment on function pgsaas.is_replacing(pgsaas.subscriptions, pgsaas.subscriptions) is
    'Whether a change of plan takes what the old one gave.';

create or replace function pgsaas.granted_in_full(
    p_s pgsaas.subscriptions, p_new pgsaas.subscriptions, p_units integer)
returns numeric
language sql stable
as $$
    select case when p_new.plan_id = p_s.plan_id or t.on_upgrade = 'prorate' then 0
           else pgsaas.in_full_for(p_new, p_units) end
      from pgsaas.plan_terms(p_new) t
$$;
comment on function pgsaas.granted_in_full(pgsaas.subscriptions, pgsaas.subscriptions, integer) is
    'How much of the new allowance a change grants for the whole month: that of another plan, for '
    'as many units as the month was granted for; more units, and a plan that says so, only for its '
    'rest.';

create or replace function pgsaas.changed_subscription(
    p_s pgsaas.subscriptions, p_plan_id text, p_interval text, p_quantity integer,
    p_allowance numeric, p_unit_amount bigint)
returns pgsaas.subscriptions
language plpgsql stable
as $$
declare
    v_new pgsaas.subscriptions;
begin
    perform pgsaas.check_subscription(p_s);
    if p_s.status not in ('trialing', 'active') then
        raise exception 'a subscription that is % cannot change', p_s.status
            using errcode = 'PT422';
    end if;
    v_new := pgsaas.choose_plan(p_s, coalesce(p_plan_id, p_s.plan_id),
        coalesce(p_interval, p_s.billing_interval), coalesce(p_quantity, p_s.quantity),
        p_allowance, p_s.currency, p_unit_amount);
    if v_new = p_s then
        raise exception 'that is what the account has' using errcode = 'PT409',
            hint = 'resume_subscription() takes a change back that is to come.';
    end if;
    return v_new;
end $$;
comment on function pgsaas.changed_subscription(pgsaas.subscriptions, text, text, integer, numeric,
    bigint) is
    'A subscription as it would be with another plan, interval, quantity or contract; null leaves '
    'as it is. PT422 where its state does not allow it, PT409 where nothing would change.';

create or replace function pgsaas.change_plan(
    p_account_id uuid, p_plan_id text default null, p_interval text default null,
    p_quantity integer default null, p_allowance numeric default null,
    p_unit_amount bigint default null, p_at_period_end boolean default null)
returns table (account_id uuid, subscription_id bigint, plan_id text, plan_version integer,
    plan_name text, rank integer, status text, has_access boolean, provider text,
    billing_interval text, quantity integer, monthly_allowance numeric, currency text,
    unit_amount bigint, started_at timestamptz, current_period_start timestamptz,
    current_period_end timestamptz, trial_ends_at timestamptz, cancel_at_period_end boolean,
    canceled_at timestamptz, ended_at timestamptz, change_at timestamptz, next_plan jsonb)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_settled record;
    v_s pgsaas.subscriptions;
    v_new pgsaas.subscriptions;
    v_change record;
    v_units integer;
begin
    perform pgsaas.check_system();
    v_settled := pgsaas.settle_subscription(p_account_id);
    v_s := v_settled.p_s;
    if pgsaas.is_default(v_s) and p_plan_id is not null and p_at_period_end is not true then
        return query select * from pgsaas.start_subscription(p_account_id, p_plan_id,
            coalesce(p_interval, 'month'), coalesce(p_quantity, 1), false, p_allowance, null,
            p_unit_amount);
        return;
    end if;
    v_new := pgsaas.changed_subscription(v_s, p_plan_id, p_interval, p_quantity, p_allowance,
        p_unit_amount);
    v_change := pgsaas.plan_change(v_s, v_settled.p_at, v_new, p_at_period_end);
    if v_change.p_change_at > v_settled.p_at then
        v_s.change_at := v_change.p_change_at;
        v_s.change_kind := 'plan';
        v_s.canceled_at := null;
        v_s.next_plan := to_jsonb(v_new) - array(
            select k from jsonb_object_keys(to_jsonb(v_new)) k
             where k <> all ('{plan_id,plan_version,billing_interval,quantity,allowance,currency,'
                 'unit_amount}'));
        perform pgsaas.store_subscription(v_s);
        perform pgsaas.apply_terms(v_s);
    else
        if v_new.billing_interval <> v_s.billing_interval then
            v_new.period_offset := pgsaas.months_since(v_new.period_anchor, v_settled.p_at);
        end if;
        v_new.change_at := null;
        v_new.change_kind := null;
        v_new.next_plan := null;
        v_new.canceled_at := null;
        perform pgsaas.store_subscription(v_new);
        if v_new.unit_amount > 0 and v_new.status = 'active' then
            perform pgsaas.earn_referral(p_account_id);
        end if;
        v_units := pgsaas.units_in_full(pgsaas.settle_period(p_account_id), v_s.quantity);
        perform pgsaas.apply_terms(v_new, pgsaas.is_replacing(v_s, v_new),
            pgsaas.granted_in_full(v_s, v_new, v_units), v_units);
    end if;
    perform pgsaas.audit('subscription.changed', p_account_id, jsonb_build_object('from',
        v_s.plan_id, 'to', v_new.plan_id, 'quantity', v_new.quantity, 'interval',
        v_new.billing_interval, 'at', v_change.p_change_at));
    return query select * from pgsaas.get_subscription(p_account_id);
end $$;
comment on function pgsaas.change_plan(uuid, text, text, integer, numeric, bigint, boolean) is
    'Gives a subscription another plan, interval, quantity or contract (null leaves as it is): an '
    'upgrade now, anything else at the end of what was paid for, unless p_at_period_end says '
    'otherwise. Of a higher allowance comes at once what the month has not granted yet: in full '
    'with another plan, unless its on_upgrade is prorate (replace, once in a month, takes what the '
    'old one gave), for the rest of the month what more units than it began with add. Whatever was '
    'to change later is forgotten. From the default plan it is start_subscription(). PT409 where '
    'nothing would change, PT422 where its state does not allow it. Only the system: PT403.';
