-- The states of a subscription, and what time makes of it.
--
--   from \ event  | trial ends       | paid    | not paid        | paused | time
--   --------------+------------------+---------+-----------------+--------+---------------------
--   trialing      | expired; active  | goes on | -               | -      | cancel_at: canceled
--                 | if it was paid   |         |                 |        |
--   active        | -                | -       | past_due/unpaid | paused | cancel_at: canceled
--   past_due      | -                | active  | unpaid          | paused | grace over: unpaid
--   unpaid        | -                | active  | -               | -      | -
--   paused        | -                | active  | -               | -      | -
--   canceled, expired: ended; the account is on the default plan then, where there is one
--
-- Any live one can be canceled or expire at once. trialing, active and past_due give access;
-- past_due, unpaid and paused grant no new credits, and keep those there are. What time does by
-- itself is worked out by whoever looks (project_subscription) and stored by whoever writes next:
-- so being late is harmless. Nothing here writes or locks.

create or replace function pgsaas.gives_access(p_status text) returns boolean
language sql immutable parallel safe
as $$ select p_status in ('trialing', 'active', 'past_due') $$;
comment on function pgsaas.gives_access(text) is
    'Whether a subscription in this state lets its account in.';

create or replace function pgsaas.may_become(p_status text, p_wanted text) returns boolean
language sql immutable parallel safe
as $$
    select case p_status
           when 'trialing' then p_wanted in ('active', 'canceled', 'expired')
           when 'active' then p_wanted in ('past_due', 'unpaid', 'paused', 'canceled', 'expired')
           when 'past_due' then p_wanted in ('active', 'unpaid', 'paused', 'canceled', 'expired')
           when 'unpaid' then p_wanted in ('active', 'canceled', 'expired')
           when 'paused' then p_wanted in ('active', 'canceled', 'expired')
           else false end
$$;
comment on function pgsaas.may_become(text, text) is
    'Whether somebody may bring a subscription from one state into another.';

create or replace function pgsaas.subscription_period(
    p_s pgsaas.subscriptions, p_at timestamptz,
    out period_start timestamptz, out period_end timestamptz)
language plpgsql stable parallel safe
as $$
declare
    v_months constant integer := case p_s.billing_interval when 'year' then 12 else 1 end;
    v_from integer;
begin
    if p_at < p_s.trial_ends_at then
        period_start := p_s.started_at;
        period_end := p_s.trial_ends_at;
        return;
    end if;
    v_from := pgsaas.months_since(p_s.period_anchor, p_at) - p_s.period_offset;
    v_from := p_s.period_offset + v_months * floor(v_from::numeric / v_months)::integer;
    period_start := pgsaas.period_end(p_s.period_anchor, v_from);
    period_end := pgsaas.period_end(p_s.period_anchor, v_from + v_months);
end $$;
comment on function pgsaas.subscription_period(pgsaas.subscriptions, timestamptz) is
    'The interval that is paid for at a time, or the trial.';

create or replace function pgsaas.ended_in(p_s pgsaas.subscriptions) returns timestamptz
language sql stable parallel safe
as $$
    select case when p_s.ended_at is null then null
           when p_s.canceled_at = p_s.ended_at
                or p_s.status = 'expired' and not p_s.expires_with_trial then p_s.ended_at
           else greatest(p_s.started_at, p_s.ended_at - interval '1 microsecond') end
$$;
comment on function pgsaas.ended_in(pgsaas.subscriptions) is
    'A time in the interval that a subscription has ended in; null if it has not. One that time '
    'ended has not begun another interval; one that somebody ended as an interval began ended in '
    'that.';

create or replace function pgsaas.paid_until(p_s pgsaas.subscriptions) returns timestamptz
language sql stable parallel safe
as $$
    select case when p_s.ended_at < p_s.trial_ends_at then p_s.ended_at
           else (pgsaas.subscription_period(p_s, pgsaas.ended_in(p_s))).period_end end
$$;
comment on function pgsaas.paid_until(pgsaas.subscriptions) is
    'Until when a subscription that has ended was paid for; nobody has paid for a trial.';

create or replace function pgsaas.default_plan() returns jsonb
language sql stable
as $$
    select coalesce((
        select jsonb_build_object('plan_id', p.plan_id, 'plan_version', p.version)
          from pgsaas.plans p where p.is_default), '{}')
$$;
comment on function pgsaas.default_plan() is
    'The default plan now as {"plan_id", "plan_version"}; {} for none.';

-- The plan that an account has without another, from p_at on, counted like p_before's periods.
create or replace function pgsaas.default_subscription(
    p_before pgsaas.subscriptions, p_at timestamptz)
returns pgsaas.subscriptions
language plpgsql stable
as $$
declare
    v_s pgsaas.subscriptions;
begin
    v_s := jsonb_populate_record(v_s, coalesce(p_before.follows, pgsaas.default_plan()));
    if v_s.plan_id is null then
        return null;
    end if;
    v_s.account_id := p_before.account_id;
    v_s.subscription_id := coalesce(p_before.subscription_id, 0) + 1;
    v_s.status := 'active';
    v_s.provider := 'default';
    v_s.billing_interval := 'month';
    v_s.quantity := 1;
    v_s.started_at := p_at;
    v_s.period_anchor := coalesce(p_before.period_anchor, p_at);
    v_s.period_offset := pgsaas.months_since(v_s.period_anchor, p_at);
    v_s.expires_with_trial := false;
    return v_s;
end $$;
comment on function pgsaas.default_subscription(pgsaas.subscriptions, timestamptz) is
    'The subscription to the default plan that follows another (nulls for none) which ended at '
    'p_at: the one that was the default when that end was decided, or now; nulls where there was '
    'none.';

create or replace function pgsaas.grace_ends_at(p_s pgsaas.subscriptions) returns timestamptz
language sql stable
as $$
    select p_s.past_due_at + pgsaas.exact_interval(v.past_due_grace)
      from pgsaas.plan_versions v
     where v.plan_id = p_s.plan_id and v.version = p_s.plan_version
       and p_s.status = 'past_due'
$$;
comment on function pgsaas.grace_ends_at(pgsaas.subscriptions) is
    'When a subscription that is past due gives no access any more; null for another.';

create or replace function pgsaas.ends_at(p_s pgsaas.subscriptions) returns timestamptz
language sql stable
as $$
    select case when p_s.ended_at is null then least(
        case when p_s.change_kind = 'canceled' then p_s.change_at end,
        case when p_s.status = 'trialing' and p_s.expires_with_trial then p_s.trial_ends_at end)
        end
$$;
comment on function pgsaas.ends_at(pgsaas.subscriptions) is
    'When a subscription ends if nobody does anything; null for never, or where it has ended.';

create or replace function pgsaas.due_at(p_s pgsaas.subscriptions) returns timestamptz
language sql stable
as $$
    select case when p_s.ended_at is null then least(pgsaas.ends_at(p_s), p_s.change_at,
        pgsaas.grace_ends_at(p_s), case when p_s.status = 'trialing' then p_s.trial_ends_at end) end
$$;
comment on function pgsaas.due_at(pgsaas.subscriptions) is
    'When time changes a subscription next; null for never.';

-- On a tie the end comes first, then a change of plan, then the end of a trial or a grace.
create or replace function pgsaas.project_subscription(
    p_s pgsaas.subscriptions, p_at timestamptz)
returns setof pgsaas.subscriptions
language plpgsql stable
as $$
declare
    v_due timestamptz := pgsaas.due_at(p_s);
    v_grace_ends_at timestamptz;
begin
    if v_due <= p_at is not true then
        return next p_s;
        return;
    end if;
    while v_due <= p_at loop
        if pgsaas.ends_at(p_s) = v_due then
            p_s.status := case when p_s.change_kind = 'canceled' and p_s.change_at = v_due
                then 'canceled' else 'expired' end;
            p_s.ended_at := v_due;
        elsif p_s.change_at = v_due then
            v_grace_ends_at := pgsaas.grace_ends_at(p_s);
            p_s := jsonb_populate_record(p_s, p_s.next_plan);
            p_s.past_due_at := p_s.past_due_at    -- the grace that has begun goes on as it was
                + pgsaas.exact_interval(v_grace_ends_at - pgsaas.grace_ends_at(p_s));
            p_s.period_offset := pgsaas.months_since(p_s.period_anchor, v_due);
        elsif p_s.status = 'past_due' then
            p_s.status := 'unpaid';
            p_s.past_due_at := null;
        else
            p_s.status := 'active';
        end if;
        if p_s.ended_at is not null or p_s.change_at = v_due then
            p_s.change_at := null;
            p_s.change_kind := null;
            p_s.next_plan := null;
        end if;
        v_due := pgsaas.due_at(p_s);
    end loop;
    p_s.due_at := v_due;
    return next p_s;
    if p_s.ended_at is not null then
        p_s := pgsaas.default_subscription(p_s, p_s.ended_at);
        if p_s.account_id is not null then
            return next p_s;
        end if;
    end if;
end $$;
comment on function pgsaas.project_subscription(pgsaas.subscriptions, timestamptz) is
    'The newest subscription of an account as it is at p_at, and the one to the default plan that '
    'follows if it has ended meanwhile.';

create or replace function pgsaas.subscription_at(p_account_id uuid, p_at timestamptz)
returns pgsaas.subscriptions
language plpgsql stable
as $$
declare
    v_s pgsaas.subscriptions;
begin
    select * into v_s from pgsaas.subscriptions s where s.account_id = p_account_id
     order by s.subscription_id desc limit 1;
    if v_s.due_at <= p_at then
        select * into v_s from pgsaas.project_subscription(v_s, p_at) x
         order by x.subscription_id desc limit 1;
    end if;
    return v_s;
end $$;
comment on function pgsaas.subscription_at(uuid, timestamptz) is
    'The newest subscription of an account as it is at a time not before its last change.';
