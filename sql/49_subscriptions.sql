-- Subscriptions: who has which plan, from when to when, for how many.
--
-- An account has at most one live subscription. Without another it is one to the default plan, so
-- what ends is followed by that. The backend says what was paid: a subscription that it starts is a
-- purchase, and only the system starts one, changes its plan or says that it is past due.
--
-- Upgrades take effect now, everything else at the end of what was paid for. What the ledger has to
-- know follows from the subscription in one place (apply_terms), ends and changes to come included:
-- so the end of a period that nobody was there for grants what it should. A period grants each
-- credit of an allowance once (36_periods), whatever was started, changed or canceled in it.
--
-- Lock rule: the account's row of the ledger first, as every writer of the ledger does; that makes
-- a plan change and a reset of one account come one after the other. Times are account time.

create or replace function pgsaas.plan_terms(
    p_s pgsaas.subscriptions, out allowance numeric, out rollover_limit numeric,
    out burn_order text, out on_upgrade text, out rank integer)
language plpgsql stable
as $$
begin
    select coalesce(p_s.allowance, v.allowance) * p_s.quantity, v.rollover_limit * p_s.quantity,
           v.burn_order, v.on_upgrade, v.rank
      into allowance, rollover_limit, burn_order, on_upgrade, rank
      from pgsaas.plan_versions v
     where v.plan_id = p_s.plan_id and v.version = p_s.plan_version;
    if allowance > 1000000000000 then
        raise exception 'an allowance is at most 10^12, not % times %',
            trim_scale(allowance / p_s.quantity), p_s.quantity using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.plan_terms(pgsaas.subscriptions) is
    'What a subscription grants a month, and how; 22023 if that is too much.';

-- The one place where a subscription becomes terms of the ledger.
create or replace function pgsaas.apply_terms(
    p_s pgsaas.subscriptions, p_replaces boolean default false,
    p_in_full numeric default null, p_units integer default null)
returns void
language plpgsql volatile
as $$
declare
    v_is_paid constant boolean := p_s.status in ('trialing', 'active');
    v_terms record := pgsaas.plan_terms(p_s);
    v_ends_at constant timestamptz := pgsaas.ends_at(p_s);
    v_changes_at constant timestamptz := case when p_s.change_kind = 'plan' then p_s.change_at end;
    v_follows record;
    v_changed jsonb;
begin
    if (pgsaas.settle_period(p_s.account_id)).period_anchor is not null then
        perform pgsaas.change_allowance(p_s.account_id, v_terms.allowance * v_is_paid::integer,
            v_terms.rollover_limit, v_terms.burn_order, p_replaces, p_in_full, p_units,
            p_s.started_at);
    else    -- there was no default plan when its last months ended
        perform pgsaas.start_period(p_s.account_id, v_terms.allowance * v_is_paid::integer,
            v_terms.rollover_limit, p_s.period_anchor, v_terms.burn_order);
    end if;
    if least(v_ends_at, v_changes_at) is null then
        return;
    end if;
    if v_changes_at is not null then
        v_follows := pgsaas.plan_terms(jsonb_populate_record(p_s, p_s.next_plan));
        v_follows.allowance := v_follows.allowance * v_is_paid::integer;
    end if;
    if v_changes_at < v_ends_at then
        v_changed := to_jsonb(v_follows) - '{on_upgrade,rank}'::text[]
            || jsonb_build_object('at', v_changes_at);
    end if;
    if v_ends_at is not null then
        v_follows := pgsaas.plan_terms(pgsaas.default_subscription(p_s, v_ends_at));
    end if;
    perform pgsaas.schedule_terms(p_s.account_id, coalesce(v_ends_at, v_changes_at),
        v_follows.allowance, v_follows.rollover_limit, v_follows.burn_order, v_changed);
end $$;
comment on function pgsaas.apply_terms(pgsaas.subscriptions, boolean, numeric, integer) is
    'Tells the ledger what a live subscription grants, and what follows when it ends or changes '
    'by itself.';

create or replace function pgsaas.units_in_full(
    p_b pgsaas.account_balances, p_units integer)
returns integer
language sql immutable parallel safe
as $$ select coalesce((p_b.period_raises ->> 'units')::integer, p_units) $$;
comment on function pgsaas.units_in_full(pgsaas.account_balances, integer) is
    'For how many units a settled account''s period was granted as a whole: p_units, those that '
    'its subscription has, unless they have changed in it.';

create or replace function pgsaas.in_full_for(p_s pgsaas.subscriptions, p_units integer)
returns numeric
language sql stable
as $$
    select trim_scale(t.allowance / p_s.quantity * least(p_units, p_s.quantity))
      from pgsaas.plan_terms(p_s) t
$$;
comment on function pgsaas.in_full_for(pgsaas.subscriptions, integer) is
    'What so many units of a subscription, or as many as it has, are granted a month.';

create or replace function pgsaas.end_terms(
    p_account_id uuid, p_at timestamptz, p_units integer default null)
returns void
language plpgsql volatile
as $$
begin
    if (pgsaas.settle_period(p_account_id)).period_anchor is not null then
        perform pgsaas.change_allowance(p_account_id, 0, p_units => p_units);
        perform pgsaas.schedule_terms(p_account_id, p_at, null);
    end if;
end $$;
comment on function pgsaas.end_terms(uuid, timestamptz, integer) is
    'Tells the ledger that no plan follows: the month that runs is the last one.';

create or replace function pgsaas.newest_subscription(p_account_id uuid)
returns pgsaas.subscriptions
language plpgsql volatile
as $$
declare
    v_s pgsaas.subscriptions;
begin
    select * into v_s from pgsaas.subscriptions s where s.account_id = p_account_id
     order by s.subscription_id desc limit 1;
    return v_s;
end $$;
comment on function pgsaas.newest_subscription(uuid) is
    'The subscription of a locked account that came last, as it was stored; nulls for none.';

create or replace function pgsaas.store_subscription(p_s pgsaas.subscriptions) returns void
language plpgsql volatile
as $$
begin
    p_s.due_at := pgsaas.due_at(p_s);
    p_s.follows := case when pgsaas.ends_at(p_s) is not null then
        coalesce(p_s.follows, pgsaas.default_plan()) end;    -- decided once, with the end
    insert into pgsaas.subscriptions select p_s.*
    on conflict (account_id, subscription_id) do update
       set plan_id = excluded.plan_id, plan_version = excluded.plan_version,
           status = excluded.status, billing_interval = excluded.billing_interval,
           quantity = excluded.quantity, allowance = excluded.allowance,
           currency = excluded.currency, unit_amount = excluded.unit_amount,
           period_offset = excluded.period_offset,
           expires_with_trial = excluded.expires_with_trial, past_due_at = excluded.past_due_at,
           canceled_at = excluded.canceled_at, ended_at = excluded.ended_at,
           change_at = excluded.change_at, change_kind = excluded.change_kind,
           next_plan = excluded.next_plan, follows = excluded.follows, due_at = excluded.due_at;
    perform pgsaas.emit(p_s.account_id, 'subscription.changed', pgsaas.now(),
        jsonb_build_object('subscription_id', p_s.subscription_id, 'plan', p_s.plan_id,
            'version', p_s.plan_version, 'quantity', p_s.quantity, 'status', p_s.status));
end $$;
comment on function pgsaas.store_subscription(pgsaas.subscriptions) is
    'Stores a new or changed subscription, and tells the outbox.';

-- Locks the account, stores what time has made of its subscription, and returns the newest one with
-- the account's time.
create or replace function pgsaas.settle_subscription(
    p_account_id uuid, out p_s pgsaas.subscriptions, out p_at timestamptz)
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.lock_account(p_account_id);
    v_was pgsaas.subscriptions;
    v_is record;
begin
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    p_at := greatest(pgsaas.now(), v_b.last_at);
    v_was := pgsaas.newest_subscription(p_account_id);
    p_s := v_was;
    if v_was.due_at <= p_at then
        for v_is in select * from pgsaas.project_subscription(v_was, p_at) loop
            p_s := v_is;
            perform pgsaas.store_subscription(p_s);
        end loop;
        if p_s.ended_at is null then
            perform pgsaas.apply_terms(p_s);
        else
            perform pgsaas.end_terms(p_account_id, p_at);
        end if;
    end if;
end $$;
comment on function pgsaas.settle_subscription(uuid) is
    'Locks the account and brings its subscription up to account time, which it returns, too. '
    'PT404 for no account.';

create or replace function pgsaas.close_subscription(
    p_s pgsaas.subscriptions, p_status text, p_at timestamptz)
returns void
language plpgsql volatile
as $$
begin
    p_s.status := p_status;
    p_s.ended_at := p_at;
    p_s.canceled_at := case when p_status = 'canceled' then coalesce(p_s.canceled_at, p_at) end;
    p_s.change_at := null;
    p_s.change_kind := null;
    p_s.next_plan := null;
    perform pgsaas.store_subscription(p_s);
end $$;
comment on function pgsaas.close_subscription(pgsaas.subscriptions, text, timestamptz) is
    'Stores the end of a live subscription; the ledger is not told.';

create or replace function pgsaas.end_subscription(
    p_s pgsaas.subscriptions, p_status text, p_at timestamptz)
returns void
language plpgsql volatile
as $$
declare
    v_b constant pgsaas.account_balances := pgsaas.settle_period(p_s.account_id);
    v_default pgsaas.subscriptions;
    v_units integer;    -- none where the month granted nothing, because nobody had paid
begin
    p_s.follows := null;
    v_units := case when v_b.period_granted > 0 or p_s.status in ('trialing', 'active')
        then pgsaas.units_in_full(v_b, p_s.quantity) else 0 end;
    v_default := pgsaas.default_subscription(p_s, p_at);
    perform pgsaas.close_subscription(p_s, p_status, p_at);
    if v_default.account_id is not null then
        perform pgsaas.store_subscription(v_default);
        perform pgsaas.apply_terms(v_default, false, (pgsaas.plan_terms(v_default)).allowance,
            v_units);
    else
        perform pgsaas.end_terms(p_s.account_id, p_at, v_units);
    end if;
end $$;
comment on function pgsaas.end_subscription(pgsaas.subscriptions, text, timestamptz) is
    'Ends a live subscription now; the default plan follows. Its credits stay to their end.';

create or replace function pgsaas.get_subscription(p_account_id uuid)
returns table (account_id uuid, subscription_id bigint, plan_id text, plan_version integer,
    plan_name text, rank integer, status text, has_access boolean, provider text,
    billing_interval text, quantity integer, monthly_allowance numeric, currency text,
    unit_amount bigint, started_at timestamptz, current_period_start timestamptz,
    current_period_end timestamptz, trial_ends_at timestamptz, cancel_at_period_end boolean,
    canceled_at timestamptz, ended_at timestamptz, change_at timestamptz, next_plan jsonb)
language plpgsql stable rows 1
as $$
begin
    return query select * from pgsaas.current_subscriptions s where s.account_id = p_account_id;
end $$;
comment on function pgsaas.get_subscription(uuid) is
    'The subscription of an account now, or the last one it had; no row for an account that never '
    'had one or that the caller may not see. monthly_allowance is that of all its units.';

-- What is asked for: a plan's current version with its price, in p_s.
create or replace function pgsaas.choose_plan(
    inout p_s pgsaas.subscriptions, p_plan_id text, p_interval text, p_quantity integer,
    p_allowance numeric, p_currency text, p_unit_amount bigint)
language plpgsql stable
as $$
declare
    v_plan pgsaas.plans;
    v_found pgsaas.plan_prices[];
begin
    select * into v_plan from pgsaas.plans p where p.plan_id = p_plan_id;
    if not found then
        perform pgsaas.raise_not_found(format('plan "%s"', p_plan_id));
    elsif v_plan.is_retired and p_plan_id is distinct from p_s.plan_id then
        raise exception 'the plan "%" cannot be chosen any more', p_plan_id
            using errcode = 'PT422';
    elsif p_interval is null or p_interval not in ('month', 'year') then
        raise exception 'an interval is month or year, not "%"', p_interval
            using errcode = '22023';
    elsif p_quantity is null or p_quantity not between 1 and 1000000 then
        raise exception 'a quantity is 1 to 1000000, not %', p_quantity using errcode = '22023';
    elsif p_allowance < 0 or p_allowance > 1000000000000
          or p_allowance <> round(p_allowance, 6) then
        raise exception 'an allowance is 0 to 10^12 with at most 6 decimals, not %', p_allowance
            using errcode = '22023';
    elsif p_unit_amount not between 0 and 99999999 or p_currency !~ '^[a-z]{3}$' then
        raise exception 'a price is an amount from 0 to 99999999 with a currency of three small '
            'letters' using errcode = '22023';
    end if;
    if p_unit_amount is not null and coalesce(p_currency, p_s.currency) is null then
        select min(x.currency) into p_currency from pgsaas.plan_prices x
         where x.plan_id = p_plan_id and x.version = v_plan.version
        having count(distinct x.currency) = 1;
        if p_currency is null then
            raise exception 'a price needs a currency: the plan "%" has not just one', p_plan_id
                using errcode = '22023';
        end if;
    end if;
    if p_plan_id is distinct from p_s.plan_id then
        p_s.plan_id := p_plan_id;
        p_s.plan_version := v_plan.version;
        p_s.currency := coalesce(p_currency, p_s.currency);
        p_s.unit_amount := p_unit_amount;
        p_s.allowance := null;
    elsif p_interval <> p_s.billing_interval or p_currency <> p_s.currency
          or p_unit_amount is not null then
        p_s.currency := coalesce(p_currency, p_s.currency);
        p_s.unit_amount := p_unit_amount;
    end if;
    p_s.billing_interval := p_interval;
    p_s.quantity := p_quantity;
    p_s.allowance := coalesce(trim_scale(p_allowance), p_s.allowance);
    if p_s.unit_amount is not null then
        return;
    end if;
    v_found := array(
        select x from pgsaas.plan_prices x
         where x.plan_id = p_s.plan_id and x.version = p_s.plan_version
           and x.billing_interval = p_interval and x.currency = coalesce(p_s.currency, x.currency)
         order by x.currency);
    if cardinality(v_found) = 1 then
        p_s.currency := v_found[1].currency;
        p_s.unit_amount := v_found[1].unit_amount;
    elsif not exists (select from pgsaas.plan_prices x
                       where x.plan_id = p_s.plan_id and x.version = p_s.plan_version) then
        p_s.currency := null;
    else
        raise exception 'the plan "%" has % price per %', p_plan_id,
            case when v_found = '{}' then 'no' else 'more than one' end,
            p_interval || coalesce(' in ' || p_s.currency, '') using errcode = 'PT422',
            hint = coalesce('Choose a currency: ' || (
                select string_agg(x.currency, ', ') from unnest(v_found) x), 'It is sold for ' || (
                select string_agg(format('%s a %s', x.currency, x.billing_interval), ', '
                           order by x.billing_interval, x.currency)
                  from pgsaas.plan_prices x
                 where x.plan_id = p_s.plan_id and x.version = p_s.plan_version)) || '.';
    end if;
end $$;
comment on function pgsaas.choose_plan(pgsaas.subscriptions, text, text, integer, numeric, text,
    bigint) is
    'A subscription with another plan in its current version, or with another price or quantity of '
    'the version it has. PT404 for an unknown plan, '
    'PT422 for a retired one or where it has no such price, 22023 for wrong arguments.';
