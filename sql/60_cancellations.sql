-- Cancellations and other news: a subscription ends, is taken up again, or is not paid.
--
-- A customer cancels and resumes; what became of payments the backend says, or staff. Which state
-- may follow which stands in 48_subscription_states. Whatever ends is followed by the default plan;
-- credits that were granted last to the end of their month.
--
-- Lock rule: the account's row of the ledger first; the many at once (assign_default_plan,
-- migrate_subscribers) go account by account in the order of their ids.

create or replace function pgsaas.cancel_subscription(
    p_account_id uuid, p_at_period_end boolean default true, p_reason text default null)
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
begin
    perform pgsaas.check_request(null, null, p_reason);
    if not pgsaas.may(p_account_id, 'pay') then
        perform pgsaas.raise_not_found('account');
    end if;
    v_settled := pgsaas.settle_subscription(p_account_id);
    v_s := v_settled.p_s;
    perform pgsaas.check_subscription(v_s);
    if not p_at_period_end then
        perform pgsaas.end_subscription(v_s, 'canceled', v_settled.p_at);
    elsif v_s.change_kind is distinct from 'canceled' then
        v_s.canceled_at := v_settled.p_at;
        v_s.change_at := (pgsaas.subscription_period(v_s, v_settled.p_at)).period_end;
        v_s.change_kind := 'canceled';
        v_s.next_plan := null;
        perform pgsaas.store_subscription(v_s);
        perform pgsaas.apply_terms(v_s);
    end if;
    if not p_at_period_end or v_s.canceled_at = v_settled.p_at then
        perform pgsaas.audit('subscription.canceled', p_account_id, jsonb_build_object('plan',
            v_s.plan_id, 'at', coalesce(v_s.change_at, v_settled.p_at), 'reason', p_reason));
    end if;
    return query select * from pgsaas.get_subscription(p_account_id);
end $$;
comment on function pgsaas.cancel_subscription(uuid, boolean, text) is
    'Ends a subscription at the end of what was paid for, or now; the default plan follows, and '
    'credits that the plan gave last to the end of their month. A change of plan that was to come '
    'is forgotten. Said again it changes nothing. PT404, PT403, PT422 without a subscription.';

create or replace function pgsaas.resume_subscription(p_account_id uuid)
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
begin
    if not pgsaas.may(p_account_id, 'pay') then
        perform pgsaas.raise_not_found('account');
    end if;
    v_settled := pgsaas.settle_subscription(p_account_id);
    v_s := v_settled.p_s;
    perform pgsaas.check_subscription(v_s);
    if v_s.change_kind is not null then
        v_s.change_at := null;
        v_s.change_kind := null;
        v_s.next_plan := null;
        v_s.canceled_at := null;
        perform pgsaas.store_subscription(v_s);
        perform pgsaas.apply_terms(v_s);
        perform pgsaas.audit('subscription.resumed', p_account_id, jsonb_build_object('plan',
            v_s.plan_id));
    end if;
    return query select * from pgsaas.get_subscription(p_account_id);
end $$;
comment on function pgsaas.resume_subscription(uuid) is
    'Takes back what was to come: a cancellation at the period''s end, or a change of plan. '
    'Without one it changes nothing. PT404, PT403, PT422 where it has ended.';

create or replace function pgsaas.set_subscription_status(
    p_account_id uuid, p_status text, p_reason text default null)
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
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    p_status := case p_status when 'cancelled' then 'canceled' else p_status end;
    if p_status is null or p_status not in ('active', 'past_due', 'unpaid', 'paused', 'canceled',
        'expired') then
        raise exception 'a subscription becomes active, past_due, unpaid, paused, canceled or '
            'expired, not "%"', p_status using errcode = '22023';
    end if;
    v_settled := pgsaas.settle_subscription(p_account_id);
    v_s := v_settled.p_s;
    perform pgsaas.check_subscription(v_s);
    if p_status = 'past_due' and v_s.status = 'unpaid' then
        p_status := 'unpaid';    -- said again after its grace
    end if;
    if v_s.status <> p_status and not pgsaas.may_become(v_s.status, p_status) then
        raise exception 'a subscription that is % cannot become %', v_s.status, p_status
            using errcode = 'PT422';
    elsif p_status in ('canceled', 'expired') then
        perform pgsaas.end_subscription(v_s, p_status, v_settled.p_at);
    elsif v_s.status <> p_status and (v_s.status <> 'trialing' or v_s.expires_with_trial) then
        if v_s.status = 'trialing' and v_s.unit_amount > 0 then
            perform pgsaas.earn_referral(p_account_id);
        end if;
        v_s.expires_with_trial := false;
        v_s.past_due_at := case when p_status = 'past_due' then v_settled.p_at end;
        v_s.status := case v_s.status when 'trialing' then 'trialing' else p_status end;
        perform pgsaas.store_subscription(v_s);
        perform pgsaas.apply_terms(v_s);
    end if;
    if v_s is distinct from v_settled.p_s or p_status in ('canceled', 'expired') then
        perform pgsaas.audit('subscription.' || p_status, p_account_id,
            jsonb_build_object('plan', v_s.plan_id, 'reason', p_reason));
    end if;
    return query select * from pgsaas.get_subscription(p_account_id);
end $$;
comment on function pgsaas.set_subscription_status(uuid, text, text) is
    'Says what became of a subscription''s payments: active (paid; a trial then goes on into a '
    'paid month when it ends), past_due (access goes on for the plan''s past_due_grace, then it '
    'is unpaid), unpaid or paused (no access), canceled or expired (at once). Only active grants '
    'new credits; the allowance of a month that was not granted comes when it is active again. The '
    'status it has changes nothing, nor does past_due when it is unpaid. PT422 for a change that '
    'no state allows, PT404, 22023. For the system and staff: PT403. Audited.';

-- What a subscriber pays in another version of the plan; a contract's price stays, and one that the
-- plan has no more.
create or replace function pgsaas.migrated_price(
    p_s pgsaas.subscriptions, p_version integer)
returns bigint
language sql stable
as $$
    select coalesce((
        select x.unit_amount
          from pgsaas.plan_prices x
          join pgsaas.plan_prices o using (plan_id, billing_interval, currency)
         where x.plan_id = p_s.plan_id and x.version = p_version
           and o.version = p_s.plan_version and o.unit_amount = p_s.unit_amount
           and x.billing_interval = p_s.billing_interval and x.currency = p_s.currency),
        p_s.unit_amount)
$$;
comment on function pgsaas.migrated_price(pgsaas.subscriptions, integer) is
    'The unit amount of a subscription in another version of its plan.';

create or replace function pgsaas.migrated_subscription(
    inout p_s pgsaas.subscriptions, p_plan_id text, p_version integer)
language plpgsql stable
as $$
declare
    v_next pgsaas.subscriptions;
begin
    if p_s.plan_id = p_plan_id and p_s.plan_version < p_version then
        p_s.unit_amount := pgsaas.migrated_price(p_s, p_version);
        p_s.plan_version := p_version;
    end if;
    if p_s.next_plan ->> 'plan_id' = p_plan_id
       and (p_s.next_plan ->> 'plan_version')::integer < p_version then
        v_next := jsonb_populate_record(p_s, p_s.next_plan);
        p_s.next_plan := p_s.next_plan || jsonb_build_object('plan_version', p_version,
            'unit_amount', pgsaas.migrated_price(v_next, p_version));
    end if;
end $$;
comment on function pgsaas.migrated_subscription(pgsaas.subscriptions, text, integer) is
    'A subscription with what it has of a plan, now or to come, in this version.';

-- All but those of the first kind wait for something, so that few are looked through.
create or replace function pgsaas.older_subscribers(p_plan_id text, p_version integer)
returns setof uuid
language sql stable
as $$
    select s.account_id from pgsaas.subscriptions s
     where s.plan_id = p_plan_id and s.plan_version < p_version and s.ended_at is null
    union
    select s.account_id from pgsaas.subscriptions s
     where s.due_at is not null and s.next_plan ->> 'plan_id' = p_plan_id
       and (s.next_plan ->> 'plan_version')::integer < p_version
    union
    select s.account_id from pgsaas.subscriptions s
     where s.due_at <= pgsaas.now() and s.follows ->> 'plan_id' = p_plan_id
       and (s.follows ->> 'plan_version')::integer < p_version
$$;
comment on function pgsaas.older_subscribers(text, integer) is
    'Accounts that have a plan in an older version, that it is to come to, or that it has come to '
    'as the default plan without anybody having stored it.';

create or replace function pgsaas.migrate_subscribers(
    p_plan_id text, p_limit integer default null, p_reason text default null)
returns table (migrated bigint, remaining bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_version integer;
    v_id uuid;
    v_was pgsaas.subscriptions;
    v_s pgsaas.subscriptions;
    v_units integer;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    perform pgsaas.check_limit(p_limit);
    select p.version into v_version from pgsaas.plans p where p.plan_id = p_plan_id;
    if v_version is null then
        perform pgsaas.raise_not_found(format('plan "%s"', p_plan_id));
    end if;
    migrated := 0;
    for v_id in
        select o.id from pgsaas.older_subscribers(p_plan_id, v_version) o (id) order by o.id
    loop
        exit when migrated = p_limit;
        begin    -- one that cannot be keeps nobody else from it
            v_was := (pgsaas.settle_subscription(v_id)).p_s;
            v_s := pgsaas.migrated_subscription(v_was, p_plan_id, v_version);
            if v_was.ended_at is null and v_s is distinct from v_was then
                perform pgsaas.store_subscription(v_s);
                v_units := pgsaas.units_in_full(pgsaas.settle_period(v_id), v_s.quantity);
                perform pgsaas.apply_terms(v_s, false, pgsaas.in_full_for(v_s, v_units), v_units);
                perform pgsaas.audit('subscription.migrated', v_id, jsonb_build_object('plan',
                    p_plan_id, 'version', v_version, 'reason', p_reason));
                migrated := migrated + 1;
            end if;
        exception when data_exception then
            raise warning 'the subscription of account % stays as it is: %', v_id, sqlerrm;
        end;
    end loop;
    select count(*) into remaining from pgsaas.older_subscribers(p_plan_id, v_version);
    return next;
end $$;
comment on function pgsaas.migrate_subscribers(text, integer, text) is
    'Gives subscribers of older versions of a plan its current terms and price, up to p_limit of '
    'them (null: all), also those whom it is to come to. Of a higher allowance comes at once what '
    'the month has not granted: in full for the units that it began with. Anything lower counts '
    'from the next month on; contracts keep their own allowance and price. One for whom the terms '
    'are too much stays, with a warning, among those who remain. PT404, 22023. For the system and '
    'staff: PT403. Audited.';
