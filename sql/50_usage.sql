-- Usage: what was used is priced, charged and recorded in one call, once.
--
-- A record and its charge are made in the caller's transaction, under the account's lock: a refusal
-- leaves neither. The idempotency key is the record's; the ledger row it points to carries none.
-- Records are numbered 1, 2, 3 … per account, so a host's own row can name one by a foreign key on
-- (account_id, usage_id). A cost of 0 makes a record and no ledger row.
--
-- The fast half of record_usage charges as deduct_credits does (31_deductions says how and why),
-- with one more insert: this room and 51_usage_batch write balances and transactions beside the
-- ledger's own. Everything else is record_usage_slow.
--
-- A late event takes the price of the time it occurred at, and is paid by today's grants; without a
-- time, it is the price of when the transaction began, as price_usage says it. Tiers that count per
-- period count in the period in which the event occurred.
--
-- Statistics by day are kept by the writers: after every 100 records of an account, the records
-- since the last time are added to daily_usage_stats. Who reads adds the few that are not yet in it
-- (53_usage_stats), so statistics are never behind, and no job has to run.

create or replace function pgsaas.usage_period(p_b pgsaas.account_balances, p_at timestamptz)
returns timestamptz
language plpgsql immutable parallel safe
as $$
declare
    v_anchor constant timestamptz := coalesce(p_b.period_anchor, '2000-01-01 00:00Z');
begin
    return pgsaas.period_end(v_anchor, pgsaas.months_since(v_anchor, p_at));
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
    'What a charge of 0 answers for a locked account, which it settles.';

create or replace function pgsaas.store_usage(
    p_record pgsaas.usage_records, p_counted pgsaas.usage_periods default null)
returns bigint
language plpgsql volatile
as $$
begin
    update pgsaas.account_balances b set usage_count = b.usage_count + 1
     where b.account_id = p_record.account_id
    returning b.usage_count into p_record.usage_id;
    insert into pgsaas.usage_records select p_record.*;
    if p_counted.account_id is not null then
        insert into pgsaas.usage_periods as p select p_counted.*
        on conflict (account_id, period_start, event_name, dimensions) do update
           set quantity = p.quantity + excluded.quantity;
    end if;
    if p_record.usage_id % 100 = 0 then
        perform pgsaas.roll_up_usage(p_record.account_id);
    end if;
    return p_record.usage_id;
end $$;
comment on function pgsaas.store_usage(pgsaas.usage_records, pgsaas.usage_periods) is
    'Stores the next record of a locked account and returns its number; what its price counts per '
    'period is added to what it counted before.';

create or replace function pgsaas.price_record(
    p_b pgsaas.account_balances, inout p_record pgsaas.usage_records,
    out p_counted pgsaas.usage_periods, out p_error_code text, out p_error_message text)
language plpgsql stable
as $$
declare
    v_found record;
    v_before numeric := 0;
begin
    select * into v_found from pgsaas.find_price(p_record.event_name, p_record.dimensions,
        least(p_record.occurred_at, pgsaas.now()), p_record.cost is null);
    p_error_code := v_found.p_error_code;
    p_error_message := v_found.p_error_message;
    if p_error_code is not null or p_record.cost is not null then
        return;
    elsif (v_found.p_price).tier_scope = 'period' then
        p_counted.account_id := p_b.account_id;
        p_counted.period_start := pgsaas.usage_period(p_b, p_record.occurred_at);
        p_counted.event_name := p_record.event_name;
        p_counted.dimensions := (v_found.p_price).dimensions;
        p_counted.quantity := p_record.quantity;
        select coalesce(max(p.quantity), 0) into v_before from pgsaas.usage_periods p
         where (p.account_id, p.period_start, p.event_name, p.dimensions)
               = (p_counted.account_id, p_counted.period_start, p_counted.event_name,
                  p_counted.dimensions);
    end if;
    p_record.priced_at := (v_found.p_price).effective_at;
    p_record.cost := pgsaas.usage_cost(v_found.p_price, p_record.quantity, v_before);
    if p_record.cost > 0 then
        p_record.cost := pgsaas.check_amount(p_record.cost, 'cost');
    end if;
end $$;
comment on function pgsaas.price_record(pgsaas.account_balances, pgsaas.usage_records) is
    'Prices a record that is to be, unless its cost is stated, or says why it cannot be; p_counted '
    'is what its price counts per period. 22023 for dimensions that the event does not have, and '
    'for a cost that is no amount.';

-- the record holds every argument: no hash is needed to compare them
create or replace function pgsaas.is_same_usage(
    p_record pgsaas.usage_records, p_event text, p_quantity numeric, p_dimensions jsonb,
    p_occurred_at timestamptz, p_cost numeric)
returns boolean
language sql immutable parallel safe
as $$
    select p_record.event_name = p_event and p_record.quantity = p_quantity
       and coalesce(p_record.dimensions, '{}') = coalesce(p_dimensions, '{}')
       and p_record.occurred_at = coalesce(p_occurred_at, p_record.created_at)
       and (case when p_record.priced_at is null then p_record.cost end) is not distinct from p_cost
       and p_record.request_hash is null
$$;
comment on function pgsaas.is_same_usage(pgsaas.usage_records, text, numeric, jsonb, timestamptz,
    numeric) is
    'Whether this is the record of such a request to record_usage; without a time it was one for '
    'the time of its record. Null for no record.';

create or replace function pgsaas.answer_again(
    p_b pgsaas.account_balances, p_record pgsaas.usage_records)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language sql stable rows 1
as $$
    select true, p_record.balance_after, pgsaas.available(pgsaas.project_account(p_b)),
           null::text, null::text, p_record.seq, true, p_record.cost, p_record.usage_id
$$;
comment on function pgsaas.answer_again(pgsaas.account_balances, pgsaas.usage_records) is
    'The answer to a request whose record there is already.';

create or replace function pgsaas.answer_unpriced(
    p_b pgsaas.account_balances, p_error_code text, p_error_message text)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language sql stable rows 1
as $$
    select false, b.balance, pgsaas.available(b), p_error_code, p_error_message, null::bigint,
           false, null::numeric, null::bigint
      from pgsaas.project_account(p_b) b
$$;
comment on function pgsaas.answer_unpriced(pgsaas.account_balances, text, text) is
    'The answer to a request that has no price: what is due is shown as done.';

create or replace function pgsaas.usage_of_key(p_account_id uuid, p_key text)
returns pgsaas.usage_records
language sql volatile
as $$
    select * from pgsaas.usage_records u
     where u.account_id = p_account_id and u.idempotency_key = p_key
$$;
comment on function pgsaas.usage_of_key(uuid, text) is
    'The record of a locked account that has this key; nulls if none has.';

create or replace function pgsaas.record_usage_slow(
    p_account_id uuid, p_event text, p_quantity numeric, p_dimensions jsonb,
    p_occurred_at timestamptz, p_cost numeric, p_idempotency_key text, p_metadata jsonb)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances := pgsaas.lock_account(p_account_id);
    v_record pgsaas.usage_records;
    v_priced record;
begin
    success := false;
    replayed := false;
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_record := pgsaas.usage_of_key(p_account_id, p_idempotency_key);
    if v_record.usage_id is not null then
        if pgsaas.is_same_usage(v_record, p_event, p_quantity, p_dimensions, p_occurred_at,
               p_cost) is not true then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        return query select * from pgsaas.answer_again(v_b, v_record);
        return;
    end if;
    v_record.account_id := p_account_id;
    v_record.created_at := greatest(pgsaas.now(), v_b.last_at);
    v_record.occurred_at := coalesce(p_occurred_at, v_record.created_at);
    v_record.event_name := p_event;
    v_record.quantity := trim_scale(p_quantity);
    v_record.cost := p_cost;
    v_record.dimensions := nullif(p_dimensions, '{}');
    v_record.idempotency_key := p_idempotency_key;
    v_record.metadata := nullif(p_metadata, '{}');
    select * into v_priced from pgsaas.price_record(v_b, v_record);
    if v_priced.p_error_code is not null then
        return query select * from pgsaas.answer_unpriced(v_b, v_priced.p_error_code,
            v_priced.p_error_message);
        return;
    end if;
    v_record := v_priced.p_record;
    if v_record.cost > 0 then
        select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq
          into success, new_balance, available, error_code, error_message, v_record.seq
          from pgsaas.deduct_slow(p_account_id, array[v_record.cost], array[null::uuid],
              array[null::text], array[p_event], array[null::text], array[null::jsonb]) d;
    else
        select f.* into success, new_balance, available, error_code, error_message
          from pgsaas.charge_nothing(v_b) f;
    end if;
    cost := v_record.cost;
    if success then
        seq := v_record.seq;
        v_record.balance_after := new_balance;
        usage_id := pgsaas.store_usage(v_record, v_priced.p_counted);
    end if;
    return next;
end $$;
comment on function pgsaas.record_usage_slow(uuid, text, numeric, jsonb, timestamptz, numeric, text,
    jsonb) is
    'The slow half of record_usage: whatever the cached head cannot answer, replays, costs of '
    'nothing and tiers per period included. Its arguments have been checked.';

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
    v_priced record;
    v_at timestamptz;
    v_grant_id bigint;
begin
    -- whatever is rarely so, in one expression, as in deduct_credits
    if p_quantity <= 0 or p_quantity > 1000000000000 or scale(p_quantity) > 6 or p_cost is not null
       or p_occurred_at is not null or p_idempotency_key = '' or p_metadata <> '{}'
       or octet_length(p_idempotency_key) > 255
       or greatest(current_setting('request.jwt.claims', true),
           current_setting('pgsaas.actor', true),
           current_setting('pgsaas.hot_accounts', true)) <> '' then
        p_quantity := pgsaas.check_amount(p_quantity, 'quantity');
        perform pgsaas.check_request(p_idempotency_key, p_metadata);
        perform pgsaas.check_occurred_at(p_occurred_at);
        if p_cost <> 0 then
            p_cost := pgsaas.check_amount(p_cost, 'cost');
        end if;
        if not pgsaas.may(p_account_id, 'spend') then
            p_account_id := null;
        elsif p_cost is not null and not pgsaas.acts_as_system() then
            raise exception 'only the system states a cost' using errcode = 'PT403';
        end if;
        perform pgsaas.queue_if_hot(p_account_id);
    end if;
    select pgsaas.are_dimensions(coalesce(p_dimensions, '{}'), e.dimensions) as is_known,
           p.effective_at,
           coalesce(p_cost, case when p.tier_scope = 'call'
               then pgsaas.usage_cost(p, p_quantity) end) as cost
      into v_priced
      from pgsaas.credit_events e
      left join lateral pgsaas.price_for(p_event, coalesce(p_dimensions, '{}'),
           least(coalesce(p_occurred_at, pgsaas.now()), pgsaas.now())) p on p_cost is null
     where e.event_name = p_event and e.is_active;
    if v_priced.cost > 0 and v_priced.cost <= 1000000000000 and v_priced.is_known
       and p_quantity > 0 then
        update pgsaas.account_balances b
           set balance = b.balance - v_priced.cost, head_left = b.head_left - v_priced.cost,
               seq = b.seq + 1, usage_count = b.usage_count + 1,
               last_at = greatest(b.last_at, pgsaas.now())
         where b.account_id = p_account_id and b.head_left - v_priced.cost > b.head_floor
           and b.next_change_at > greatest(b.last_at, pgsaas.now())
        returning b.seq, b.balance, b.balance - b.held + b.overdraft_limit, b.last_at,
            b.head_grant_id, b.usage_count, v_priced.cost, true, false
          into seq, new_balance, available, v_at, v_grant_id, usage_id, cost, success, replayed;
        if found then
            insert into pgsaas.usage_records (account_id, usage_id, created_at, occurred_at,
                priced_at, seq, event_name, quantity, cost, balance_after, dimensions,
                idempotency_key, metadata)
            values (p_account_id, usage_id, v_at, coalesce(p_occurred_at, v_at),
                v_priced.effective_at, seq, p_event, trim_scale(p_quantity), cost, new_balance,
                nullif(p_dimensions, '{}'), p_idempotency_key, nullif(p_metadata, '{}'))
            on conflict (account_id, idempotency_key) where idempotency_key is not null do nothing;
            if found then
                insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id,
                    transaction_type, amount, balance_after, description)
                values (p_account_id, seq, v_at, v_grant_id, 'deduction', -cost, new_balance,
                    p_event);
                if usage_id % 100 = 0 then
                    perform pgsaas.roll_up_usage(p_account_id);
                end if;
                return next;
                return;
            end if;
            update pgsaas.account_balances b
               set balance = b.balance + cost, head_left = b.head_left + cost, seq = b.seq - 1,
                   usage_count = b.usage_count - 1
             where b.account_id = p_account_id;
        end if;
    end if;
    p_quantity := pgsaas.check_amount(p_quantity, 'quantity');
    return query select * from pgsaas.record_usage_slow(p_account_id, p_event, p_quantity,
        p_dimensions, p_occurred_at, p_cost, p_idempotency_key, p_metadata);
end $$;
comment on function pgsaas.record_usage(uuid, text, numeric, jsonb, timestamptz, numeric, text,
    jsonb) is
    'Prices p_quantity (above 0) of an event, charges it and records it, all or nothing; cost is '
    'what was charged, or would have been; usage_id numbers the record. p_dimensions choose the '
    'price. p_occurred_at (null: now) may be long past: the price is that of its time. p_cost '
    'states the cost instead (0 for none; the system only). EVENT_NOT_FOUND (also where there was '
    'no price then), EVENT_INACTIVE, INSUFFICIENT_CREDITS, ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN. With '
    'a key it has one effect, ever. 22023 for wrong arguments, unknown dimensions and the future; '
    'PT403 for a user who states a cost.';

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
