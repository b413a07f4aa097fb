-- Rate limits and spend caps: how fast, and how much.
--
-- A rate limit is a bucket that the plan gives a size and a time to fill: 60 per minute lets 60
-- requests come at once, and one a second after that. A request takes tokens or is told when to
-- come again. The bucket's row is changed in one statement, so limits are exact however many ask;
-- it stays locked until the transaction ends: call take_rate_limit() in a transaction of its own.
--
-- A cap binds work that asks first (64_jobs): no job of an account, a member, an agent or a key
-- starts that would spend more than it in a day or month (UTC), running ones counted at what they
-- hold, and what one comes to beyond that is charged as far as the caps leave room. Lock rule: caps
-- are read and changed under the account's lock.

create or replace function pgsaas.take_rate_limit(
    p_account_id uuid, p_bucket text, p_cost numeric default 1)
returns table (allowed boolean, limit_value numeric, remaining numeric, reset_at timestamptz,
    retry_after numeric)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := pgsaas.now();
    v_terms jsonb;
    v_found record;
    v_tokens numeric;
begin
    if p_cost is null or not (p_cost > 0 and p_cost <= 1000000000000)
       or p_cost <> round(p_cost, 6) then
        raise exception 'a cost is above 0 with at most 6 decimals, not %', p_cost
            using errcode = '22023';
    elsif not pgsaas.may(p_account_id, 'read')
          or not exists (select from pgsaas.accounts a where a.account_id = p_account_id) then
        perform pgsaas.raise_not_found('account');
    end if;
    v_terms := (pgsaas.entitlement(p_account_id, 'rate:' || p_bucket)).value;
    v_found := pgsaas.rate_limit(p_account_id, p_bucket, v_terms);
    limit_value := v_found.limit_value;
    allowed := true;
    if limit_value is null then
        return next;
        return;
    end if;
    insert into pgsaas.rate_limits as r (account_id, bucket, tokens, filled_at)
    select p_account_id, p_bucket, limit_value - p_cost, v_now where p_cost <= limit_value
    on conflict (account_id, bucket) do update
       set tokens = pgsaas.refilled(r.tokens, r.filled_at, limit_value, v_found.seconds, v_now)
               - p_cost,
           filled_at = greatest(r.filled_at, v_now)
     where pgsaas.refilled(r.tokens, r.filled_at, limit_value, v_found.seconds, v_now) >= p_cost
    returning r.tokens into v_tokens;
    allowed := found;
    if not allowed then
        v_tokens := (pgsaas.rate_limit(p_account_id, p_bucket, v_terms)).tokens;
        if p_cost <= limit_value then    -- else it never fits
            retry_after := ceil((p_cost - v_tokens) * v_found.seconds / limit_value * 1000) / 1000;
        end if;
    end if;
    remaining := floor(v_tokens);
    reset_at := pgsaas.full_at(v_tokens, limit_value, v_found.seconds);
    return next;
end $$;
comment on function pgsaas.take_rate_limit(uuid, text, numeric) is
    'Takes p_cost tokens out of a bucket of the account''s plan, if there are as many: what an API '
    'says in its headers. remaining is in whole tokens, reset_at when the bucket is full again, '
    'retry_after the seconds until p_cost tokens are there (null: now, or never). limit_value '
    'null: no limit. In a transaction of its own. PT404 for no account, 22023 for a wrong cost.';

create or replace function pgsaas.set_spend_cap(
    p_account_id uuid, p_subject_kind text, p_subject text, p_cap numeric,
    p_interval text default 'month', p_reason text default null)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_subject constant text := case p_subject_kind when 'account' then '' else p_subject end;
    v_b pgsaas.account_balances;
begin
    perform pgsaas.check_request(null, null, p_reason);
    if p_subject_kind is null or p_subject_kind not in ('account', 'member', 'agent', 'key')
       or v_subject is null or octet_length(v_subject) > 255
       or (v_subject = '') <> (p_subject_kind = 'account') then
        raise exception 'a cap is for the account, a member, an agent or a key, by its name'
            using errcode = '22023';
    elsif p_interval is null or p_interval not in ('day', 'month') then
        raise exception 'a cap is per day or month, not "%"', p_interval using errcode = '22023';
    elsif p_cap < 0 or p_cap > 1000000000000 or p_cap <> round(p_cap, 6) then
        raise exception 'a cap is 0 to 10^12 with at most 6 decimals, not %', p_cap
            using errcode = '22023';
    end if;
    v_b := pgsaas.lock_for(p_account_id, 'manage');
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    delete from pgsaas.spend_caps c
     where c.account_id = p_account_id and c.subject_kind = p_subject_kind
       and c.subject = v_subject and (p_cap is null or c.cap_interval <> p_interval);
    if p_cap is not null then
        insert into pgsaas.spend_caps as c (account_id, subject_kind, subject, cap, cap_interval,
            period_start, since_hold, since_seq)
        values (p_account_id, p_subject_kind, v_subject, trim_scale(p_cap), p_interval,
            greatest(pgsaas.now(), v_b.last_at), v_b.hold_count, v_b.seq)
        on conflict (account_id, subject_kind, subject) do update set cap = excluded.cap
         where c.cap <> excluded.cap;
    end if;
    if found then
        perform pgsaas.audit('spend_cap.changed', p_account_id, jsonb_build_object('of',
            p_subject_kind, 'subject', v_subject, 'cap', p_cap, 'per', p_interval, 'reason',
            p_reason));
        return true;
    end if;
    return false;
end $$;
comment on function pgsaas.set_spend_cap(uuid, text, text, numeric, text, text) is
    'Lets jobs of an account spend at most p_cap credits a day or month (UTC): all of them '
    '(account), those of a member, on an agent, or by a key. A job counts at what it holds when it '
    'begins, and what it comes to beyond that when it is completed. Null takes the cap back. It '
    'counts from when it is set. False if nothing changed. PT404, PT403, 22023. Audited.';

create or replace function pgsaas.count_spend(
    p_account_id uuid, p_subjects jsonb, p_amount numeric, p_at timestamptz,
    p_spent_at timestamptz default null, p_seq bigint default null)
returns void
language sql volatile
as $$
    update pgsaas.spend_caps c
       set spent = p_amount + case
               when c.period_start >= date_trunc(c.cap_interval, p_at, 'UTC') then c.spent
               else 0 end,
           period_start = greatest(c.period_start, date_trunc(c.cap_interval, p_at, 'UTC'))
     where c.account_id = p_account_id and c.subject = p_subjects ->> c.subject_kind
       and (p_spent_at is null or p_seq > c.since_seq
           and p_spent_at >= date_trunc(c.cap_interval, p_at, 'UTC'))
$$;
comment on function pgsaas.count_spend(uuid, jsonb, numeric, timestamptz, timestamptz, bigint) is
    'Adds to what a locked account''s caps count for the present day or month; of what was spent '
    'at another time, by a row of the ledger, to those that it is in and that were there.';

create or replace function pgsaas.uncount_spend(
    p_account_id uuid, p_subjects jsonb, p_amount numeric, p_at timestamptz,
    p_counted_at timestamptz, p_hold_id bigint, p_seq bigint default null)
returns void
language sql volatile
as $$
    update pgsaas.spend_caps c
       set spent = c.spent - p_amount
     where c.account_id = p_account_id and c.subject = p_subjects ->> c.subject_kind
       and p_counted_at >= date_trunc(c.cap_interval, p_at, 'UTC')
       and (p_hold_id > c.since_hold or p_seq > c.since_seq)
$$;
comment on function pgsaas.uncount_spend(uuid, jsonb, numeric, timestamptz, timestamptz, bigint,
    bigint) is
    'Takes back what was counted at p_counted_at, with a hold or a row of the ledger, from those '
    'of a locked account''s caps that count it still: it was in the present day or month, and not '
    'before the cap.';

create or replace function pgsaas.room_in_caps(
    p_account_id uuid, p_subjects jsonb, p_at timestamptz)
returns numeric
language sql stable
as $$
    select min(greatest(0, c.cap - case
               when c.period_start >= date_trunc(c.cap_interval, p_at, 'UTC') then c.spent
               else 0 end))
      from pgsaas.spend_caps c
     where c.account_id = p_account_id and c.subject = p_subjects ->> c.subject_kind
$$;
comment on function pgsaas.room_in_caps(uuid, jsonb, timestamptz) is
    'What a job may spend now beyond what it holds, by the caps of a locked account; null without '
    'one.';

-- The account is locked. What was spent before the present day or month counts no more.
create or replace function pgsaas.spend_within_caps(
    p_account_id uuid, p_subjects jsonb, p_amount numeric, p_at timestamptz)
returns text
language plpgsql volatile
as $$
declare
    v_full text;
begin
    select format('the spend cap of %s credits a %s is reached (%s)', c.cap, c.cap_interval,
               concat_ws(' ', c.subject_kind, nullif(c.subject, '')))
      into v_full
      from pgsaas.spend_caps c
     where c.account_id = p_account_id and c.subject = p_subjects ->> c.subject_kind
       and p_amount > 0
       and p_amount + case when c.period_start >= date_trunc(c.cap_interval, p_at, 'UTC')
               then c.spent else 0 end > c.cap
     order by c.subject_kind limit 1;
    if v_full is null then
        perform pgsaas.count_spend(p_account_id, p_subjects, p_amount, p_at);
    end if;
    return v_full;
end $$;
comment on function pgsaas.spend_within_caps(uuid, jsonb, numeric, timestamptz) is
    'Counts an amount for {"account": "", "member", "agent", "key"} of a locked account, or says '
    'which cap it would break.';
