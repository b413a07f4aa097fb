-- Entitlements: what an account may do, by its plan or by an exception made for it.
--
-- A feature is on, off, or has a value; a limit is a number that may be used up, standing (three
-- voice slots) or anew each month of the account's (five videos). What is not in the plan is not
-- allowed. A subscription that gives no access allows nothing; an override counts whatever the
-- subscription says. After a downgrade more may be in use than is allowed: nothing is taken, and
-- nothing more given.
--
-- use_entitlement() is exact when many want the last one: it changes one row and looks in the same
-- statement whether that still fits. It belongs into the transaction that makes the thing it
-- counts, and is undone with it. Lock rule: that one row; no account is locked.

-- What an account has of a feature; the limit as check_limits() stores it.
create or replace function pgsaas.entitlement(
    p_account_id uuid, p_feature text, out at timestamptz, out value jsonb, out source text,
    out period_start timestamptz, out period_end timestamptz)
language plpgsql stable
as $$
declare
    v_b pgsaas.account_balances;
    v_s pgsaas.subscriptions;
    v_anchor timestamptz;
    v_months integer;
begin
    select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    at := greatest(pgsaas.now(), v_b.last_at);
    select o.value, 'override' into value, source
      from pgsaas.entitlement_overrides o
     where o.account_id = p_account_id and o.feature = p_feature
       and coalesce(o.ends_at > at, true);
    if not found then
        v_s := pgsaas.subscription_at(p_account_id, at);
        source := case when pgsaas.gives_access(v_s.status) then 'plan' else 'inactive' end;
        select case when starts_with(p_feature, 'rate:') then v.rate_limits -> substr(p_feature, 6)
                   else coalesce(v.limits -> p_feature, v.features -> p_feature) end into value
          from pgsaas.plan_versions v
         where v.plan_id = v_s.plan_id and v.version = v_s.plan_version;
        source := case when value is null then 'none' else source end;
    end if;
    period_start := '-infinity';
    if value ->> 'per' = 'period' then
        v_anchor := coalesce(v_b.period_anchor, '2000-01-01 00:00Z');
        v_months := pgsaas.months_since(v_anchor, at);
        period_start := pgsaas.period_end(v_anchor, v_months);
        period_end := pgsaas.period_end(v_anchor, v_months + 1);
    end if;
end $$;
comment on function pgsaas.entitlement(uuid, text) is
    'What an account has of a feature, a limit or the rate limit "rate:BUCKET" now, by its plan, '
    'an override, or not (inactive, none), and the month in which a limit counts.';

create or replace function pgsaas.refilled(
    p_tokens numeric, p_filled_at timestamptz, p_limit numeric, p_seconds numeric,
    p_at timestamptz)
returns numeric
language sql immutable parallel safe
as $$
    select least(p_limit, p_tokens + p_limit * greatest(0, extract(epoch from p_at - p_filled_at))
        / p_seconds)
$$;
comment on function pgsaas.refilled(numeric, timestamptz, numeric, numeric, timestamptz) is
    'The tokens in a bucket that holds p_limit and fills in p_seconds.';

create or replace function pgsaas.rate_limit(
    p_account_id uuid, p_bucket text, p_terms jsonb, out limit_value numeric, out seconds numeric,
    out tokens numeric)
language plpgsql stable
as $$
begin
    limit_value := (p_terms ->> 'limit')::numeric;
    seconds := case p_terms ->> 'per' when 'second' then 1 when 'minute' then 60
        when 'hour' then 3600 else 86400 end;
    select pgsaas.refilled(r.tokens, r.filled_at, limit_value, seconds, pgsaas.now()) into tokens
      from pgsaas.rate_limits r where r.account_id = p_account_id and r.bucket = p_bucket;
    tokens := coalesce(tokens, limit_value);
end $$;
comment on function pgsaas.rate_limit(uuid, text, jsonb) is
    'A rate limit by its terms (null: none): in how many seconds the bucket fills, and the tokens '
    'in it now.';

create or replace function pgsaas.full_at(p_tokens numeric, p_limit numeric, p_seconds numeric)
returns timestamptz
language sql stable
as $$
    select pgsaas.now() + make_interval(secs => coalesce(
        (p_limit - p_tokens) * p_seconds / nullif(p_limit, 0), 0)::double precision)
     where p_limit is not null
$$;
comment on function pgsaas.full_at(numeric, numeric, numeric) is
    'When a bucket is full again; null without a limit.';

create or replace function pgsaas.check_entitlement(p_account_id uuid, p_feature text)
returns table (allowed boolean, value jsonb, limit_value numeric, used numeric, remaining numeric,
    resets_at timestamptz, source text)
language plpgsql stable security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_found record;
    v_rate record;
begin
    if not pgsaas.may(p_account_id, 'read') then
        p_account_id := null;
    end if;
    v_found := pgsaas.entitlement(p_account_id, p_feature);
    source := v_found.source;
    resets_at := v_found.period_end;
    if starts_with(p_feature, 'rate:') then
        v_rate := pgsaas.rate_limit(p_account_id, substr(p_feature, 6), v_found.value);
        value := v_found.value -> 'per';
        limit_value := v_rate.limit_value;
        remaining := floor(v_rate.tokens);
        used := limit_value - remaining;
        resets_at := pgsaas.full_at(v_rate.tokens, limit_value, v_rate.seconds);
        allowed := coalesce(remaining >= 1, true);
        return next;
        return;
    elsif jsonb_typeof(v_found.value) = 'object' then
        limit_value := (v_found.value ->> 'limit')::numeric;
        used := coalesce((
            select u.used from pgsaas.entitlement_usage u
             where u.account_id = p_account_id and u.feature = p_feature
               and u.period_start = v_found.period_start), 0);
        remaining := case when limit_value is not null then greatest(0, limit_value - used) end;
        allowed := coalesce(used < limit_value, true);
    else
        value := v_found.value;
        allowed := v_found.value is not null and v_found.value <> 'false';
    end if;
    allowed := allowed and source in ('plan', 'override');
    return next;
end $$;
comment on function pgsaas.check_entitlement(uuid, text) is
    'Whether an account may use a feature, or one more of a limit: value of the feature, or '
    'limit_value (null: no limit), used, remaining and when a limit per period counts anew. source '
    'says why: plan, override, inactive (the subscription gives no access), none (not part of the '
    'plan; unknown and foreign accounts, too). Of the rate limit "rate:BUCKET" value is the time '
    'it is per, remaining the whole tokens in the bucket, resets_at when it is full again; without '
    'one everything is allowed.';

create or replace function pgsaas.use_entitlement(
    p_account_id uuid, p_feature text, p_delta numeric default 1)
returns table (success boolean, used numeric, limit_value numeric, remaining numeric,
    resets_at timestamptz, error_code text, error_message text)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_found record;
begin
    if p_delta is null or abs(p_delta) > 1000000000000 or p_delta <> round(p_delta, 6)
       or p_delta = 0 then
        raise exception 'a change is a number other than 0 with at most 6 decimals, not %', p_delta
            using errcode = '22023';
    end if;
    success := false;
    if not pgsaas.may(p_account_id, 'spend')
       or not exists (select from pgsaas.accounts a where a.account_id = p_account_id) then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_found := pgsaas.entitlement(p_account_id, p_feature);
    limit_value := (v_found.value ->> 'limit')::numeric;
    resets_at := v_found.period_end;
    if p_delta > 0 and v_found.source = 'inactive' then
        error_code := 'SUBSCRIPTION_INACTIVE';
        error_message := 'the subscription gives no access';
    elsif jsonb_typeof(v_found.value) is distinct from 'object'
          or starts_with(p_feature, 'rate:') then
        error_code := 'PLAN_REQUIRED';
        error_message := format('the plan has no "%s" to use up', p_feature);
    else
        -- giving back is always possible, down to nothing; what is above the limit stays there
        insert into pgsaas.entitlement_usage as u (account_id, feature, period_start, used)
        select p_account_id, p_feature, v_found.period_start, greatest(0, p_delta)
         where p_delta < 0 or coalesce(p_delta <= limit_value, true)
        on conflict (account_id, feature, period_start) do update
           set used = greatest(0, u.used + p_delta)
         where p_delta < 0 or coalesce(u.used + p_delta <= limit_value, true)
        returning u.used into used;
        success := found;
        if not success then
            used := coalesce((
                select u.used from pgsaas.entitlement_usage u
                 where u.account_id = p_account_id and u.feature = p_feature
                   and u.period_start = v_found.period_start), 0);
            error_code := 'LIMIT_EXCEEDED';
            error_message := format('%s of %s %s are used', trim_scale(used),
                trim_scale(limit_value), p_feature);
        end if;
        remaining := case when limit_value is not null then greatest(0, limit_value - used) end;
    end if;
    return next;
end $$;
comment on function pgsaas.use_entitlement(uuid, text, numeric) is
    'Uses up p_delta of a limit, or with a p_delta below 0 gives it back: exact, however many ask '
    'at once, and undone with the transaction. LIMIT_EXCEEDED where it does not fit, nothing is '
    'used then; PLAN_REQUIRED where the plan has no such limit, SUBSCRIPTION_INACTIVE, '
    'ACCOUNT_NOT_FOUND. 22023 for a wrong p_delta.';

create or replace function pgsaas.has_feature(p_feature text) returns boolean
language sql stable security definer set search_path = ''
as $$
    select exists (
        select from unnest(pgsaas.my_account_ids()) m (account_id)
         cross join lateral pgsaas.check_entitlement(m.account_id, p_feature) e where e.allowed)
$$;
comment on function pgsaas.has_feature(text) is
    'Whether an account of the user of this transaction may use a feature: for the policies of the '
    'application''s own tables. False without a user.';

create or replace function pgsaas.set_entitlement(
    p_account_id uuid, p_feature text, p_value jsonb, p_reason text,
    p_ends_at timestamptz default null)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_reason(p_reason);
    if not exists (select from pgsaas.accounts a
                    where a.account_id = p_account_id and a.erased_at is null) then
        perform pgsaas.raise_not_found('account');
    elsif p_feature is null or octet_length(p_feature) not between 1 and 100 then
        raise exception 'a feature''s name has 1 to 100 bytes' using errcode = '22023';
    elsif p_value is not null and p_ends_at <= pgsaas.now() then
        raise exception 'an exception ends in the future' using errcode = '22023';
    elsif p_value is null then
        delete from pgsaas.entitlement_overrides o
         where o.account_id = p_account_id and o.feature = p_feature;
        if not found then
            return false;
        end if;
    else
        if jsonb_typeof(p_value) = 'object' then
            p_value := pgsaas.check_limits('limits', jsonb_build_object(p_feature, p_value),
                case when starts_with(p_feature, 'rate:') then '{second,minute,hour,day}'
                    else array['', 'period'] end) -> p_feature;
        else
            p_value := pgsaas.check_features(jsonb_build_object(p_feature, p_value)) -> p_feature;
        end if;
        insert into pgsaas.entitlement_overrides as o (account_id, feature, value, ends_at,
            reason, created_at)
        values (p_account_id, p_feature, p_value, p_ends_at, p_reason, pgsaas.now())
        on conflict (account_id, feature) do update
           set value = excluded.value, ends_at = excluded.ends_at, reason = excluded.reason,
               created_at = excluded.created_at
         where (o.value, o.ends_at) is distinct from (excluded.value, excluded.ends_at);
        if not found then
            return false;
        end if;
    end if;
    perform pgsaas.audit('entitlement.changed', p_account_id, jsonb_build_object('feature',
        p_feature, 'value', p_value, 'ends_at', p_ends_at, 'reason', p_reason));
    return true;
end $$;
comment on function pgsaas.set_entitlement(uuid, text, jsonb, text, timestamptz) is
    'Makes an exception for an account, whatever its plan says, until p_ends_at (null: for good): '
    'true, false, a text or a number for a feature; {"limit": number or "unlimited", "per": '
    '"period"} for a limit; {"limit", "per": second, minute, hour or day} for the rate limit '
    '"rate:BUCKET". Null takes the exception back. False if nothing changed. For the system and '
    'staff: PT403. PT404, 22023. Audited.';
