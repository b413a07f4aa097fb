-- Usage: what was used is priced, charged and recorded in one call, once.
--
-- A record and its charge are made in the caller's transaction, under the account's lock: a refusal
-- leaves neither. The idempotency key is the record's; the ledger row it points to carries none.
-- Records are numbered 1, 2, 3 … per account, so a host's own row can name one by a foreign key on
-- (account_id, usage_id). A cost of 0 makes a record and no ledger row.
--
-- A late event takes the price of the time it occurred at, and is paid by today's grants. Tiers
-- that count per period count in the period in which the event occurred.
--
-- Statistics by day are kept by the writers: after every 100 records of an account (ROLL_UP), the
-- records since the last time are added to daily_usage_stats. Who reads adds the few that are not
-- yet in it, so statistics are never behind, and no job has to run. Lock rule: the account's row,
-- as everywhere.

create or replace function pgsaas.usage_period(p_b pgsaas.account_balances, p_at timestamptz)
returns timestamptz
language plpgsql immutable parallel safe
as $$
declare
    v_anchor constant timestamp := coalesce(p_b.period_anchor, '2000-01-01 00:00Z')
        at time zone 'UTC';
    v_at constant timestamp := p_at at time zone 'UTC';
    v_months integer := (extract(year from v_at) - extract(year from v_anchor)) * 12
        + extract(month from v_at) - extract(month from v_anchor);
begin
    if v_anchor + make_interval(months => v_months) > v_at then
        v_months := v_months - 1;
    end if;
    return (v_anchor + make_interval(months => v_months)) at time zone 'UTC';
end $$;
comment on function pgsaas.usage_period(pgsaas.account_balances, timestamptz) is
    'When the account''s period began that a time lies in; calendar months (UTC) for an account '
    'without periods.';

create or replace function pgsaas.roll_up_usage(p_account_id uuid) returns void
language plpgsql volatile
as $$
declare
    v_from bigint;
    v_to bigint;
begin
    select coalesce(max(r.usage_id), 0) into v_from from pgsaas.usage_rollups r
     where r.account_id = p_account_id;
    select max(u.usage_id) into v_to from pgsaas.usage_records u
     where u.account_id = p_account_id;
    insert into pgsaas.daily_usage_stats as d (account_id, day, event_name, dimensions, records,
        quantity, cost)
    select p_account_id, (u.occurred_at at time zone 'UTC')::date, u.event_name,
           coalesce(u.dimensions, '{}'), count(*), sum(u.quantity), sum(u.cost)
      from pgsaas.usage_records u
     where u.account_id = p_account_id and u.usage_id > v_from and u.usage_id <= v_to
     group by 2, 3, 4
    on conflict (account_id, day, event_name, dimensions) do update
       set records = d.records + excluded.records, quantity = d.quantity + excluded.quantity,
           cost = d.cost + excluded.cost;
    insert into pgsaas.usage_rollups as r (account_id, usage_id) values (p_account_id, v_to)
    on conflict (account_id) do update set usage_id = excluded.usage_id;
end $$;
comment on function pgsaas.roll_up_usage(uuid) is
    'Adds the records of a locked account that its daily statistics do not count yet.';

create or replace function pgsaas.check_occurred_at(p_occurred_at timestamptz) returns void
language plpgsql stable
as $$
begin
    if not isfinite(p_occurred_at) or p_occurred_at > pgsaas.now() + interval '1 hour' then
        raise exception 'occurred_at must not lie in the future: %', p_occurred_at
            using errcode = '22023', hint = 'A clock may be ahead by up to an hour.';
    end if;
end $$;
comment on function pgsaas.check_occurred_at(timestamptz) is
    'Raises 22023 for a time more than an hour ahead, and for infinity. Null passes.';

create or replace function pgsaas.charge_nothing(p_b pgsaas.account_balances)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text)
language plpgsql volatile rows 1
as $$
begin
    p_b := pgsaas.settle_account(p_b);
    perform pgsaas.store_balance(p_b);
    success := not p_b.is_frozen;
    new_balance := p_b.balance;
    available := pgsaas.available(p_b);
    if p_b.is_frozen then
        error_code := 'ACCOUNT_FROZEN';
        error_message := 'the account is frozen';
    end if;
    return next;
end $$;
comment on function pgsaas.charge_nothing(pgsaas.account_balances) is
    'What a charge of 0 would answer for a locked account. It writes the account''s row, so that a '
    'transaction with an older snapshot learns that it lost a race (40001).';

create or replace function pgsaas.store_usage(p_record pgsaas.usage_records) returns bigint
language plpgsql volatile
as $$
begin
    select coalesce(max(u.usage_id), 0) + 1 into p_record.usage_id from pgsaas.usage_records u
     where u.account_id = p_record.account_id;
    insert into pgsaas.usage_records select p_record.*;
    if p_record.usage_id % 100 = 0 then
        perform pgsaas.roll_up_usage(p_record.account_id);
    end if;
    return p_record.usage_id;
end $$;
comment on function pgsaas.store_usage(pgsaas.usage_records) is
    'Stores the next record of a locked account and returns its number.';

create or replace function pgsaas.record_usage(
    p_account_id uuid, p_event text, p_quantity numeric default 1, p_dimensions jsonb default '{}',
    p_occurred_at timestamptz default null, p_cost numeric default null,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_at timestamptz;
    v_record pgsaas.usage_records;
    v_event pgsaas.credit_events;
    v_price pgsaas.credit_prices;
    v_period timestamptz;
    v_before numeric := 0;
begin
    p_quantity := pgsaas.check_amount(p_quantity, 'quantity');
    perform pgsaas.check_request(p_idempotency_key, p_metadata);
    perform pgsaas.check_occurred_at(p_occurred_at);
    if p_cost <> 0 then
        p_cost := pgsaas.check_amount(p_cost, 'cost');
    end if;
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    if p_cost is not null and not pgsaas.acts_as_system() then
        raise exception 'only the system states a cost' using errcode = 'PT403';
    end if;
    v_at := greatest(pgsaas.now(), v_b.last_at);
    new_balance := v_b.balance;
    if p_idempotency_key is not null then
        select * into v_record from pgsaas.usage_records u
         where u.account_id = p_account_id and u.idempotency_key = p_idempotency_key;
    end if;
    if v_record.usage_id is not null then
        if (v_record.event_name, v_record.quantity, coalesce(v_record.dimensions, '{}'))
           is distinct from (p_event, p_quantity, coalesce(p_dimensions, '{}'))
           or v_record.occurred_at is distinct from coalesce(p_occurred_at, v_record.created_at)
           or (case when v_record.priced_at is null then v_record.cost end) is distinct from p_cost
           or v_record.request_hash is not null then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        success := true;
        replayed := true;
        seq := v_record.seq;
        cost := v_record.cost;
        usage_id := v_record.usage_id;
        select t.balance_after into new_balance from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq = v_record.seq;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    select * into v_event from pgsaas.credit_events e where e.event_name = p_event;
    if v_event.event_name is null then
        error_code := 'EVENT_NOT_FOUND';
        error_message := format('no credit event "%s"', p_event);
    elsif not v_event.is_active then
        error_code := 'EVENT_INACTIVE';
        error_message := format('credit event "%s" is not active', p_event);
    else
        p_dimensions := pgsaas.check_dimensions(p_event, p_dimensions, v_event.dimensions);
        cost := p_cost;
        if p_cost is null then
            select * into v_price from pgsaas.price_for(p_event, p_dimensions,
                least(coalesce(p_occurred_at, v_at), v_at));
            if v_price.tier_scope = 'period' then
                v_period := pgsaas.usage_period(v_b, coalesce(p_occurred_at, v_at));
                select coalesce(max(p.quantity), 0) into v_before from pgsaas.usage_periods p
                 where p.account_id = p_account_id and p.period_start = v_period
                   and p.event_name = p_event and p.dimensions = v_price.dimensions;
            end if;
            cost := pgsaas.usage_cost(v_price, p_quantity, v_before);
        end if;
        if cost is null then
            error_code := 'EVENT_NOT_FOUND';
            error_message := format('credit event "%s" has no price%s%s', p_event,
                ' at ' || to_char(p_occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                ' for ' || nullif(p_dimensions, '{}')::text);
        elsif cost > 0 then
            select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq
              into success, new_balance, available, error_code, error_message, seq
              from pgsaas.deduct_credits(p_account_id, cost, p_description => p_event) d;
        else
            select f.* into success, new_balance, available, error_code, error_message
              from pgsaas.charge_nothing(v_b) f;
        end if;
    end if;
    available := coalesce(available, pgsaas.available(pgsaas.project_account(v_b)));
    if success then
        if v_period is not null then
            insert into pgsaas.usage_periods as p (account_id, period_start, event_name, dimensions,
                quantity)
            values (p_account_id, v_period, p_event, v_price.dimensions, p_quantity)
            on conflict (account_id, period_start, event_name, dimensions) do update
               set quantity = p.quantity + excluded.quantity;
        end if;
        v_record.account_id := p_account_id;
        v_record.created_at := v_at;
        v_record.occurred_at := coalesce(p_occurred_at, v_at);
        v_record.priced_at := v_price.effective_at;
        v_record.seq := seq;
        v_record.event_name := p_event;
        v_record.quantity := p_quantity;
        v_record.cost := cost;
        v_record.dimensions := nullif(p_dimensions, '{}');
        v_record.idempotency_key := p_idempotency_key;
        v_record.metadata := nullif(p_metadata, '{}');
        usage_id := pgsaas.store_usage(v_record);
    end if;
    return next;
end $$;
comment on function pgsaas.record_usage(uuid, text, numeric, jsonb, timestamptz, numeric, text,
    jsonb) is
    'Prices p_quantity (above 0) of an event, charges it and records it, all or nothing; cost is '
    'what was charged, usage_id numbers the record. p_dimensions choose the price. p_occurred_at '
    '(null: now) may be long past: the price is that of its time. p_cost states the cost instead '
    '(0 for none; the system only). EVENT_NOT_FOUND (also where there was no price then), '
    'EVENT_INACTIVE, INSUFFICIENT_CREDITS, ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN. With a key it has '
    'one effect, ever. 22023 for wrong arguments, unknown dimensions and the future; PT403 for a '
    'user who states a cost.';

create or replace function pgsaas.consume_credits(
    p_account_id uuid, p_event_name text, p_quantity numeric default 1,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language sql volatile rows 1
as $$
    select * from pgsaas.record_usage(p_account_id, p_event_name, p_quantity,
        p_idempotency_key => p_idempotency_key, p_metadata => p_metadata)
$$;
comment on function pgsaas.consume_credits(uuid, text, numeric, text, jsonb) is
    'record_usage of an event without dimensions, by the name that other systems have for it; they '
    'share their keys.';

create or replace function pgsaas.check_and_deduct_credits(
    p_account_id uuid, p_tools text[] default '{}', p_description text default null,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hash constant bytea := pgsaas.request_hash(variadic coalesce(p_tools, '{}'));
    v_record pgsaas.usage_records;
begin
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    if p_idempotency_key is not null then
        select * into v_record from pgsaas.usage_records u
         where u.account_id = p_account_id and u.idempotency_key = p_idempotency_key;
    end if;
    if v_record.usage_id is not null then
        if v_record.request_hash is distinct from v_hash then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        success := true;
        replayed := true;
        seq := v_record.seq;
        cost := v_record.cost;
        usage_id := v_record.usage_id;
        select t.balance_after into new_balance from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq = v_record.seq;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    new_balance := v_b.balance;
    select q.cost, q.error_code, q.error_message into cost, error_code, error_message
      from pgsaas.query_cost(p_tools) q;
    if cost > 0 then
        select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq
          into success, new_balance, available, error_code, error_message, seq
          from pgsaas.deduct_credits(p_account_id, cost,
              p_description => coalesce(p_description, 'query')) d;
    elsif cost = 0 then
        select f.* into success, new_balance, available, error_code, error_message
          from pgsaas.charge_nothing(v_b) f;
    end if;
    available := coalesce(available, pgsaas.available(pgsaas.project_account(v_b)));
    if success then
        v_record.account_id := p_account_id;
        v_record.created_at := greatest(pgsaas.now(), v_b.last_at);
        v_record.occurred_at := v_record.created_at;
        v_record.seq := seq;
        v_record.event_name := 'query';
        v_record.quantity := 1;
        v_record.cost := cost;
        v_record.idempotency_key := p_idempotency_key;
        v_record.request_hash := v_hash;
        v_record.metadata := p_metadata || jsonb_build_object('tools', p_tools);
        usage_id := pgsaas.store_usage(v_record);
    end if;
    return next;
end $$;
comment on function pgsaas.check_and_deduct_credits(uuid, text[], text, text, jsonb) is
    'Charges a query that used these tools what calculate_query_cost says, if it is available, and '
    'records it as use of the event "query". INSUFFICIENT_CREDITS, ACCOUNT_NOT_FOUND, '
    'ACCOUNT_FROZEN, EVENT_NOT_FOUND and EVENT_INACTIVE where queries have no price. With a key, '
    'which record_usage shares, it has one effect, ever.';

create or replace function pgsaas.capture_usage(
    p_account_id uuid, p_hold_id bigint, p_event text, p_quantity numeric,
    p_dimensions jsonb default '{}', p_shortfall text default 'partial',
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hash bytea;
    v_price record;
    v_record pgsaas.usage_records;
begin
    perform pgsaas.check_request(p_idempotency_key, p_metadata);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(p_hold_id::text, p_event, trim_scale(p_quantity)::text,
        p_dimensions::text, p_shortfall);
    if p_idempotency_key is not null then
        select * into v_record from pgsaas.usage_records u
         where u.account_id = p_account_id and u.idempotency_key = p_idempotency_key;
    end if;
    if v_record.usage_id is not null then
        if v_record.request_hash is distinct from v_hash then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        success := true;
        replayed := true;
        seq := v_record.seq;
        cost := v_record.cost;
        usage_id := v_record.usage_id;
        select t.balance_after into new_balance from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.seq = v_record.seq;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    new_balance := v_b.balance;
    select * into v_price from pgsaas.price_usage(p_event, p_quantity, p_dimensions);
    error_code := v_price.error_code;
    error_message := v_price.error_message;
    if v_price.cost > 0 then
        select c.success, c.new_balance, c.available, c.error_code, c.error_message, c.seq,
               c.captured
          into success, new_balance, available, error_code, error_message, seq, cost
          from pgsaas.capture_hold(p_account_id, p_hold_id, v_price.cost, p_shortfall) c;
    elsif v_price.cost = 0 then
        cost := 0;
        select r.success, r.new_balance, r.available, r.error_code, r.error_message
          into success, new_balance, available, error_code, error_message
          from pgsaas.release_hold(p_account_id, p_hold_id) r;
    end if;
    available := coalesce(available, pgsaas.available(pgsaas.project_account(v_b)));
    if success then
        v_record.account_id := p_account_id;
        v_record.created_at := greatest(pgsaas.now(), v_b.last_at);
        v_record.occurred_at := v_record.created_at;
        v_record.priced_at := (v_price.price ->> 'effective_at')::timestamptz;
        v_record.seq := seq;
        v_record.event_name := p_event;
        v_record.quantity := trim_scale(p_quantity);
        v_record.cost := cost;
        v_record.dimensions := nullif(p_dimensions, '{}');
        v_record.idempotency_key := p_idempotency_key;
        v_record.request_hash := v_hash;
        v_record.metadata := nullif(p_metadata, '{}');
        usage_id := pgsaas.store_usage(v_record);
    end if;
    return next;
end $$;
comment on function pgsaas.capture_usage(uuid, bigint, text, numeric, jsonb, text, text, jsonb) is
    'Ends work that was paid by a hold: prices what it used, captures that much of the hold '
    '(p_shortfall as in capture_hold: partial unless said otherwise) and records it. cost is what '
    'was captured. What capture_hold answers, EVENT_NOT_FOUND, EVENT_INACTIVE: then the hold stays '
    'open. With a key, which record_usage shares, it has one effect, ever. Tiers that count per '
    'period are counted from nothing. 22023 for wrong arguments.';

create or replace function pgsaas.get_usage_stats(
    p_account_id uuid, p_from date default null, p_to date default null,
    p_group_by text[] default '{event}')
returns table (period date, event_name text, category text, dimensions jsonb, records bigint,
    quantity numeric, cost numeric)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_to constant date := coalesce(p_to, (pgsaas.now() at time zone 'UTC')::date);
    v_from constant date := coalesce(p_from, v_to - 29);
    v_step constant text := (
        select min(g) from unnest(p_group_by) g where g in ('day', 'week', 'month'));
    v_names constant text[] := array(
        select g from unnest(p_group_by) g
         where g not in ('day', 'week', 'month', 'event', 'category') order by g);
begin
    if p_group_by is null or v_from > v_to
       or (select count(*) from unnest(p_group_by) g where g in ('day', 'week', 'month')) > 1 then
        raise exception 'statistics need days in order and one of day, week and month at most'
            using errcode = '22023';
    end if;
    return query
        with days as (
            select d.day, d.event_name, d.dimensions, d.records, d.quantity, d.cost
              from pgsaas.daily_usage_stats d
             where d.account_id = p_account_id and d.day between v_from and v_to
            union all    -- what the writers have not added yet
            select (u.occurred_at at time zone 'UTC')::date, u.event_name,
                   coalesce(u.dimensions, '{}'), 1, u.quantity, u.cost
              from pgsaas.usage_records u
             where u.account_id = p_account_id
               and u.usage_id > coalesce((select r.usage_id from pgsaas.usage_rollups r
                                           where r.account_id = p_account_id), 0)
               and u.occurred_at >= v_from::timestamp at time zone 'UTC'
               and u.occurred_at < (v_to + 1)::timestamp at time zone 'UTC')
        select case when v_step is not null then date_trunc(v_step, d.day::timestamp)::date end,
               case when 'event' = any (p_group_by) then d.event_name end,
               case when 'event' = any (p_group_by) or 'category' = any (p_group_by)
                   then e.category end,
               n.named, sum(d.records)::bigint,
               case when 'event' = any (p_group_by) then sum(d.quantity) end, sum(d.cost)
          from days d
          left join pgsaas.credit_events e on e.event_name = d.event_name
         cross join lateral (
               select coalesce(jsonb_object_agg(x.name, d.dimensions -> x.name)
                   filter (where d.dimensions ? x.name), '{}') as named
                 from unnest(v_names) x (name)) n
         group by 1, 2, 3, 4
         order by 1, 2, 3, 4;
end $$;
comment on function pgsaas.get_usage_stats(uuid, date, date, text[]) is
    'What an account used from p_from to p_to (days of UTC, both included; null: the last 30): '
    'records, quantity (only by event: quantities of different events do not add up) and cost, by '
    'day, week or month, event, category and dimensions, each where p_group_by names it. Counts '
    'every record, also those of a moment ago. 22023 for days out of order.';

create or replace function pgsaas.record_usage_item(
    p_account_id uuid, p_event text, p_quantity numeric, p_dimensions jsonb,
    p_occurred_at timestamptz, p_cost numeric, p_idempotency_key text, p_metadata jsonb)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile rows 1
as $$
begin
    return query select * from pgsaas.record_usage(p_account_id, p_event, p_quantity, p_dimensions,
        p_occurred_at, p_cost, p_idempotency_key, p_metadata);
exception
    when invalid_parameter_value then
        return query select false, null::numeric, null::numeric, 'INVALID_ARGUMENT', sqlerrm,
            null::bigint, false, null::numeric, null::bigint;
    when sqlstate 'PT409' then
        return query select false, null::numeric, null::numeric, 'KEY_CONFLICT', sqlerrm,
            null::bigint, false, null::numeric, null::bigint;
end $$;
comment on function pgsaas.record_usage_item(uuid, text, numeric, jsonb, timestamptz, numeric, text,
    jsonb) is
    'record_usage for an item of a batch: what it would raise is the item''s answer.';

-- Accounts whose items are all in order, have new keys, cost something and have a price of their
-- own are charged together; the others item by item. An account is wholly one or the other, so its
-- items take effect in their order.
create or replace function pgsaas.record_usage_batch(
    p_account_ids uuid[], p_events text[], p_quantities numeric[] default null,
    p_dimensions jsonb[] default null, p_occurred_at timestamptz[] default null,
    p_costs numeric[] default null, p_idempotency_keys text[] default null,
    p_metadata jsonb[] default null)
returns table (item integer, success boolean, new_balance numeric, available numeric,
    error_code text, error_message text, seq bigint, replayed boolean, cost numeric,
    usage_id bigint)
language plpgsql volatile security definer set search_path = ''
    set plan_cache_mode = 'force_generic_plan' set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_n constant integer := cardinality(p_account_ids);
    v_now constant timestamptz := pgsaas.now();
    v_denied uuid[] := array[]::uuid[];
    v_good record;
    v_done record;
    v_item record;
begin
    if v_n is null or v_n > 10000 or cardinality(p_events) is distinct from v_n
       or cardinality(p_quantities) <> v_n or cardinality(p_dimensions) <> v_n
       or cardinality(p_occurred_at) <> v_n or cardinality(p_costs) <> v_n
       or cardinality(p_idempotency_keys) <> v_n or cardinality(p_metadata) <> v_n then
        raise exception 'a batch is at most 10000 items, in arrays of one length'
            using errcode = '22023';
    end if;
    if not pgsaas.acts_as_system() then
        if p_costs is not null then
            raise exception 'only the system states a cost' using errcode = 'PT403';
        end if;
        v_denied := array(select distinct i.id from unnest(p_account_ids) i (id)
                           where i.id is not null and not pgsaas.may(i.id, 'spend'));
    end if;
    perform pgsaas.lock_in_order(array(
        select i.id from unnest(p_account_ids) i (id) where i.id <> all (v_denied)));
    with items as (
        select i.ord, i.account_id, i.event, i.dimensions, i.occurred_at, i.key, i.metadata,
               i.cost as stated, case when p_quantities is null then 1 else i.quantity end
                   as quantity
          from unnest(p_account_ids, p_events, p_quantities, p_dimensions, p_occurred_at, p_costs,
                   p_idempotency_keys, p_metadata) with ordinality
               i (account_id, event, quantity, dimensions, occurred_at, cost, key, metadata, ord)),
    priced as (
        select i.*, p.effective_at as priced_at,
               (i.quantity > 0 and i.quantity <= 1000000000000 and i.quantity = round(i.quantity, 6)
                and e.is_active and coalesce(p.tier_scope, 'call') = 'call'
                and (i.occurred_at <= v_now) is not false
                and (octet_length(i.key) between 1 and 255) is not false
                and (jsonb_typeof(i.metadata) = 'object'
                     and octet_length(i.metadata::text) <= 16384) is not false
                and (coalesce(i.dimensions, '{}') = '{}'
                     or jsonb_typeof(i.dimensions) = 'object'
                        and octet_length(i.dimensions::text) <= 1024
                        and not exists (
                            select from jsonb_each(i.dimensions) d
                             where d.key <> all (e.dimensions)
                                or jsonb_typeof(d.value) <> 'string'))) is true as is_good,
               coalesce(i.stated, pgsaas.usage_cost(p, i.quantity)) as cost
          from items i
          left join pgsaas.credit_events e on e.event_name = i.event
          left join lateral pgsaas.price_for(i.event, coalesce(i.dimensions, '{}'),
                   coalesce(i.occurred_at, v_now)) p
            on i.stated is null and i.quantity < 'infinity'),
    accounts as (
        select p.account_id from priced p join pgsaas.account_balances b using (account_id)
         where p.account_id <> all (v_denied)
         group by p.account_id
        having bool_and(p.is_good and p.cost > 0 and p.cost <= 1000000000000
                        and p.cost = round(p.cost, 6)) is true
           and count(p.key) = count(distinct p.key)
           and not exists (
               select from pgsaas.usage_records u
                where u.account_id = p.account_id and u.idempotency_key = any (array_agg(p.key))))
    select array_agg(p.ord order by p.ord) as ords,
           array_agg(p.account_id order by p.ord) as account_ids,
           array_agg(p.event order by p.ord) as events,
           array_agg(p.quantity order by p.ord) as quantities,
           array_agg(nullif(p.dimensions, '{}') order by p.ord) as dimensions,
           array_agg(p.occurred_at order by p.ord) as occurred_at,
           array_agg(p.priced_at order by p.ord) as priced_at,
           array_agg(p.cost order by p.ord) as costs,
           array_agg(p.key order by p.ord) as keys,
           array_agg(nullif(p.metadata, '{}') order by p.ord) as metadata
      into v_good
      from priced p join accounts a using (account_id);
    with charged as materialized (
        select * from pgsaas.deduct_credits_batch(coalesce(v_good.account_ids, '{}'),
            coalesce(v_good.costs, '{}'), p_descriptions => v_good.events)),
    numbered as materialized (
        select c.*, g.*, sum(c.success::integer) over (partition by g.account_id order by g.ord)
                   as n
          from charged c
          join unnest(v_good.ords, v_good.account_ids, v_good.events, v_good.quantities,
                   v_good.dimensions, v_good.occurred_at, v_good.priced_at, v_good.costs,
                   v_good.keys, v_good.metadata) with ordinality
               g (ord, account_id, event, quantity, dimensions, occurred_at, priced_at, cost, key,
                   metadata, place)
            on g.place = c.item),
    counted as materialized (
        select a.account_id, greatest(v_now, b.last_at) as at, coalesce((
                   select max(u.usage_id) from pgsaas.usage_records u
                    where u.account_id = a.account_id), 0) as last_id
          from (select distinct n.account_id from numbered n) a
          join pgsaas.account_balances b using (account_id)),
    stored as (
        insert into pgsaas.usage_records as u (account_id, usage_id, created_at, occurred_at,
            priced_at, seq, event_name, quantity, cost, dimensions, idempotency_key, metadata)
        select n.account_id, k.last_id + n.n, k.at, coalesce(n.occurred_at, k.at), n.priced_at,
               n.seq, n.event, trim_scale(n.quantity), n.cost, n.dimensions, n.key, n.metadata
          from numbered n join counted k using (account_id)
         where n.success
        returning u.account_id, u.usage_id)
    select array(select n.ord from numbered n order by n.ord) as ords,
           array(select n.success from numbered n order by n.ord) as success,
           array(select n.new_balance from numbered n order by n.ord) as new_balances,
           array(select n.available from numbered n order by n.ord) as availables,
           array(select n.error_code from numbered n order by n.ord) as error_codes,
           array(select n.error_message from numbered n order by n.ord) as error_messages,
           array(select n.seq from numbered n order by n.ord) as seqs,
           array(select n.cost from numbered n order by n.ord) as costs,
           array(select case when n.success then (k.last_id + n.n)::bigint end
                   from numbered n join counted k using (account_id) order by n.ord) as usage_ids,
           array(select distinct s.account_id from stored s where s.usage_id % 100 = 0) as due
      into v_done;
    perform pgsaas.roll_up_usage(d.account_id) from unnest(v_done.due) d (account_id);
    for v_item in
        select i.*, d.*
          from unnest(p_account_ids, p_events, p_quantities, p_dimensions, p_occurred_at, p_costs,
                   p_idempotency_keys, p_metadata) with ordinality
               i (account_id, event, quantity, dimensions, occurred_at, stated, key, metadata,
                   place)
          left join unnest(v_done.ords, v_done.success, v_done.new_balances, v_done.availables,
                   v_done.error_codes, v_done.error_messages, v_done.seqs, v_done.costs,
                   v_done.usage_ids)
               d (ord, success, new_balance, available, error_code, error_message, seq, cost,
                   usage_id)
            on d.ord = i.place
         order by i.place
    loop
        item := v_item.place;
        if v_item.ord is not null then
            success := v_item.success;
            new_balance := v_item.new_balance;
            available := v_item.available;
            error_code := v_item.error_code;
            error_message := v_item.error_message;
            seq := v_item.seq;
            replayed := false;
            cost := v_item.cost;
            usage_id := v_item.usage_id;
        else
            select r.* into success, new_balance, available, error_code, error_message, seq,
                   replayed, cost, usage_id
              from pgsaas.record_usage_item(
                  case when v_item.account_id <> all (v_denied) then v_item.account_id end,
                  v_item.event, case when p_quantities is null then 1 else v_item.quantity end,
                  v_item.dimensions, v_item.occurred_at, v_item.stated, v_item.key,
                  coalesce(v_item.metadata, '{}')) r;
        end if;
        return next;
    end loop;
end $$;
comment on function pgsaas.record_usage_batch(uuid[], text[], numeric[], jsonb[], timestamptz[],
    numeric[], text[], jsonb[]) is
    'record_usage for up to 10,000 items, given as arrays of one length (an array may be null as a '
    'whole; quantities then are 1); answers in item order. Per account the items take effect in '
    'item order, each all or nothing. What record_usage would raise is the item''s own '
    'INVALID_ARGUMENT or KEY_CONFLICT. Locks the accounts in the order of their ids. 22023 for '
    'more items or unequal arrays, PT403 for a user who states costs.';
