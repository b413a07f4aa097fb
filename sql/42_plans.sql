-- Plans: what a subscription buys, as data.
--
-- A plan has versions of its terms; a version is never changed, and who bought one keeps it.
-- Setting a plan to what it is already makes no version, so a catalog may be applied again and
-- again. A plan is retired, never deleted: then nobody can choose it any more. At most one plan is
-- the default, which new accounts are given. Money is in a currency's smallest unit.
--
-- Lock rule: the plan's row, nothing else; of two that meet, the one that began first loses
-- (40001).

create or replace function pgsaas.check_plan_prices(p_plan_id text, p_prices jsonb)
returns setof pgsaas.plan_prices
language plpgsql immutable parallel safe
as $$
declare
    v_price jsonb;
    v_row pgsaas.plan_prices;
    v_seen text[] := array[]::text[];
begin
    if jsonb_typeof(p_prices) <> 'array' then
        raise exception '"prices" is a list such as [{"interval": "month", "currency": "usd", '
            '"amount": 2900}]' using errcode = '22023';
    end if;
    for v_price in select x from jsonb_array_elements(p_prices) x loop
        perform pgsaas.check_terms('a price', v_price, '{interval,currency,amount}');
        v_row.plan_id := p_plan_id;
        v_row.billing_interval := pgsaas.term_text(v_price, 'interval', 'month');
        v_row.currency := lower(pgsaas.term_text(v_price, 'currency'));
        v_row.unit_amount := pgsaas.term_number(v_price, 'amount', 0, 99999999, 0);
        if v_row.billing_interval not in ('month', 'year') then
            raise exception '"interval" is month or year, not "%"', v_row.billing_interval
                using errcode = '22023';
        elsif v_row.currency !~ '^[a-z]{3}$' or v_row.currency is null
              or v_row.unit_amount is null then
            raise exception 'a price needs an "amount" and a "currency" of three letters: %',
                v_price using errcode = '22023';
        elsif v_row.billing_interval || v_row.currency = any (v_seen) then
            raise exception 'two prices per % in %', v_row.billing_interval, v_row.currency
                using errcode = '22023';
        end if;
        v_seen := v_seen || (v_row.billing_interval || v_row.currency);
        return next v_row;
    end loop;
end $$;
comment on function pgsaas.check_plan_prices(text, jsonb) is
    'Prices of a plan as they are stored, without their version. Raises 22023 for what can be '
    'none.';

create or replace function pgsaas.check_plan(p_plan_id text, p_terms jsonb)
returns pgsaas.plan_versions
language plpgsql immutable parallel safe
as $$
declare
    v_plan pgsaas.plan_versions;
begin
    if p_plan_id is null or p_plan_id !~ '^[a-z0-9][a-z0-9_.-]{0,99}$' then
        raise exception 'a plan''s id has 1 to 100 small letters, digits, _, . and -, not "%"',
            p_plan_id using errcode = '22023';
    end if;
    perform pgsaas.check_terms(format('plan "%s"', p_plan_id), p_terms, '{name,description,rank,'
        'allowance,rollover,trial_days,prices,features,limits,rate_limits,burn_order,on_upgrade,'
        'renewal_grace,past_due_grace,default}');
    v_plan.plan_id := p_plan_id;
    v_plan.name := pgsaas.term_text(p_terms, 'name', p_plan_id);
    v_plan.description := pgsaas.term_text(p_terms, 'description');
    v_plan.rank := pgsaas.term_number(p_terms, 'rank', 0, 1000000, 0, 0);
    v_plan.allowance := pgsaas.term_number(p_terms, 'allowance', 0, 1000000000000, 6, 0);
    v_plan.rollover_limit := case when p_terms -> 'rollover' = '"unlimited"' then null
        else pgsaas.term_number(p_terms, 'rollover', 0, 1000000000000, 6, 0) end;
    v_plan.trial_days := pgsaas.term_number(p_terms, 'trial_days', 0, 730, 0, 0);
    v_plan.burn_order := pgsaas.term_text(p_terms, 'burn_order');
    v_plan.on_upgrade := pgsaas.term_text(p_terms, 'on_upgrade', 'keep');
    v_plan.renewal_grace := pgsaas.term_interval(p_terms, 'renewal_grace', '30 days', '3 days');
    v_plan.past_due_grace := pgsaas.term_interval(p_terms, 'past_due_grace', '90 days', '7 days');
    v_plan.features := pgsaas.check_features(coalesce(p_terms -> 'features', '{}'));
    v_plan.limits := pgsaas.check_limits('limits', coalesce(p_terms -> 'limits', '{}'),
        array['', 'period']);
    v_plan.rate_limits := pgsaas.check_limits('rate_limits',
        coalesce(p_terms -> 'rate_limits', '{}'), '{second,minute,hour,day}');
    if octet_length(v_plan.name) not between 1 and 100
       or octet_length(v_plan.description) > 4096 then
        raise exception 'a name has 1 to 100 bytes, a description at most 4096'
            using errcode = '22023';
    elsif v_plan.burn_order not in ('purchased_first', 'expiring_first') then
        raise exception '"burn_order" is purchased_first or expiring_first, not "%"',
            v_plan.burn_order using errcode = '22023';
    elsif v_plan.on_upgrade not in ('keep', 'replace', 'prorate') then
        raise exception '"on_upgrade" is keep, replace or prorate, not "%"', v_plan.on_upgrade
            using errcode = '22023';
    elsif jsonb_typeof(p_terms -> 'default') <> 'boolean' then
        raise exception '"default" is true or false, not %', p_terms -> 'default'
            using errcode = '22023';
    end if;
    return v_plan;
end $$;
comment on function pgsaas.check_plan(text, jsonb) is
    'Terms of a plan as they are stored, without version and time. Raises 22023 for what can be '
    'none.';

create or replace function pgsaas.set_plan(
    p_plan_id text, p_terms jsonb, p_reason text default null)
returns table (plan_id text, version integer, changed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := pgsaas.now();
    v_new pgsaas.plan_versions;
    v_was pgsaas.plans;
    v_is_default boolean;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    v_new := pgsaas.check_plan(p_plan_id, p_terms);
    insert into pgsaas.plans (plan_id, version, created_at, changed_at)
    values (p_plan_id, 0, v_now, v_now)
    on conflict do nothing;
    select * into v_was from pgsaas.plans p where p.plan_id = p_plan_id for no key update;
    v_is_default := coalesce((p_terms ->> 'default')::boolean, false);
    version := v_was.version;
    changed := v_is_default <> v_was.is_default or v_was.is_retired;
    if not exists (
            select from pgsaas.plan_versions v
             where v.plan_id = p_plan_id and v.version = v_was.version
               and to_jsonb(v) - '{version,created_at}'::text[]
                   = to_jsonb(v_new) - '{version,created_at}'::text[])
       or exists (
            (select p.billing_interval, p.currency, p.unit_amount from pgsaas.plan_prices p
              where p.plan_id = p_plan_id and p.version = v_was.version
             except
             select p.billing_interval, p.currency, p.unit_amount
               from pgsaas.check_plan_prices(p_plan_id, coalesce(p_terms -> 'prices', '[]')) p)
            union all
            (select p.billing_interval, p.currency, p.unit_amount
               from pgsaas.check_plan_prices(p_plan_id, coalesce(p_terms -> 'prices', '[]')) p
             except
             select p.billing_interval, p.currency, p.unit_amount from pgsaas.plan_prices p
              where p.plan_id = p_plan_id and p.version = v_was.version)) then
        changed := true;
        version := v_was.version + 1;
        v_new.version := version;
        v_new.created_at := v_now;
        insert into pgsaas.plan_versions select v_new.*;
        insert into pgsaas.plan_prices (plan_id, version, billing_interval, currency, unit_amount)
        select p_plan_id, v_new.version, p.billing_interval, p.currency, p.unit_amount
          from pgsaas.check_plan_prices(p_plan_id, coalesce(p_terms -> 'prices', '[]')) p;
    end if;
    if changed and v_was.changed_at > v_now then
        raise exception 'somebody else has changed the plan "%" meanwhile', p_plan_id
            using errcode = '40001';
    elsif v_is_default and exists (
            select from pgsaas.plans p where p.is_default and p.plan_id <> p_plan_id) then
        raise exception 'plan "%" would be a second default', p_plan_id using errcode = 'PT409',
            hint = (select format('Set "%s" without "default" first.', p.plan_id)
                      from pgsaas.plans p where p.is_default and p.plan_id <> p_plan_id);
    elsif changed then
        update pgsaas.plans p
           set version = coalesce(v_new.version, p.version), is_default = v_is_default,
               is_retired = false, changed_at = v_now
         where p.plan_id = p_plan_id;
        perform pgsaas.audit('plan.changed', null, jsonb_build_object('plan', p_plan_id,
            'version', version, 'terms', p_terms, 'reason', p_reason));
    end if;
    plan_id := p_plan_id;
    return next;
end $$;
comment on function pgsaas.set_plan(text, jsonb, text) is
    'Makes a plan or a new version of its terms; terms that it has already change nothing, a term '
    'that is left out takes its default. Terms: name, description, rank (0), allowance (credits '
    'per month, 0), rollover (how many of them, or "unlimited"; 0), trial_days (0), prices '
    '[{"interval": month or year, "currency", "amount" in its smallest unit}, …], features {name: '
    'true, a text or a number}, limits {name: a number or "unlimited", or {"limit", "per": '
    '"period"}}, rate_limits {bucket: {"limit", "per": second, minute, hour or day}}, burn_order '
    '(null: the account''s), on_upgrade (keep, replace, prorate), renewal_grace ("3 days"), '
    'past_due_grace ("7 days"), default. A retired plan can be chosen again. 22023 for wrong '
    'terms, PT409 for a second default, 40001 when somebody changed the plan meanwhile. Audited.';

create or replace function pgsaas.retire_plan(p_plan_id text, p_reason text default null)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    if not exists (select from pgsaas.plans p where p.plan_id = p_plan_id) then
        perform pgsaas.raise_not_found(format('plan "%s"', p_plan_id));
    end if;
    update pgsaas.plans p set is_retired = true, is_default = false, changed_at = pgsaas.now()
     where p.plan_id = p_plan_id and not p.is_retired;
    if found then
        perform pgsaas.audit('plan.retired', null, jsonb_build_object('plan', p_plan_id,
            'reason', p_reason));
    end if;
    return found;
end $$;
comment on function pgsaas.retire_plan(text, text) is
    'Takes a plan out of what can be chosen; who has it keeps it. False if it was retired before. '
    'PT404. Audited.';

create or replace function pgsaas.list_plans()
returns table (plan_id text, version integer, name text, description text, rank integer,
    allowance numeric, rollover_limit numeric, trial_days integer, features jsonb, limits jsonb,
    rate_limits jsonb, prices jsonb, is_default boolean)
language sql stable
as $$
    select v.plan_id, v.version, v.name, v.description, v.rank, v.allowance, v.rollover_limit,
           v.trial_days, v.features, v.limits, v.rate_limits,
           (select coalesce(jsonb_agg(jsonb_build_object('interval', x.billing_interval,
                       'currency', x.currency, 'amount', x.unit_amount)
                       order by x.currency, x.billing_interval), '[]')
              from pgsaas.plan_prices x where x.plan_id = v.plan_id and x.version = v.version),
           p.is_default
      from pgsaas.plans p
      join pgsaas.plan_versions v on v.plan_id = p.plan_id and v.version = p.version
     where not p.is_retired
     order by v.rank, v.plan_id
$$;
comment on function pgsaas.list_plans() is
    'The plans that can be chosen, by rank. rollover_limit null is no limit; amounts are in the '
    'currency''s smallest unit.';

create or replace function pgsaas.get_monthly_credits(p_plan text) returns numeric
language plpgsql stable
as $$
declare
    v_allowance numeric;
begin
    select v.allowance into v_allowance
      from pgsaas.plans p
      join pgsaas.plan_versions v on v.plan_id = p.plan_id and v.version = p.version
     where p.plan_id = lower(p_plan);
    if v_allowance is null then
        perform pgsaas.raise_not_found(format('plan "%s"', p_plan));
    end if;
    return v_allowance;
end $$;
comment on function pgsaas.get_monthly_credits(text) is
    'Credits per month of a plan, in capitals or not. PT404 if there is none.';
