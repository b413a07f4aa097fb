-- Usage, many records at once.
--
-- A batch takes its items by account. Where all of an account's items are in order, have new keys,
-- cost something and fit its cached head, it is charged with the others of its kind by one
-- statement (charge_fitting_usage; 31_deductions tells of its shape). Where all have been recorded
-- before, they are answered by another. What is left is done account by account: in one go where
-- the items are in order and only miss the head, else item by item. An account is wholly one or the
-- other, so its items take effect in their order.
--
-- Lock rule: all accounts first, in the order of their ids.

create or replace function pgsaas.is_request(p_key text, p_metadata jsonb) returns boolean
language sql immutable parallel safe
as $$
    select (octet_length(p_key) between 1 and 255) is not false
       and (jsonb_typeof(p_metadata) = 'object'
            and octet_length(p_metadata::text) <= 16384) is not false
$$;
comment on function pgsaas.is_request(text, jsonb) is
    'Whether check_request would let these pass.';

create or replace function pgsaas.charge_fitting_usage(
    p_account_ids uuid[], p_events text[], p_quantities numeric[], p_dimensions jsonb[],
    p_occurred_at timestamptz[], p_prices numeric[], p_priced_at timestamptz[],
    p_idempotency_keys text[], p_metadata jsonb[], p_denied uuid[],
    out p_ords integer[], out p_balances numeric[], out p_availables numeric[],
    out p_seqs bigint[], out p_usage_ids bigint[])
language plpgsql volatile set plan_cache_mode = 'force_generic_plan' set enable_seqscan = off
as $$
declare
    v_due uuid[];
begin
    with folded as (
        select i.account_id, sum(i.price) as amount, count(*) as n, array_agg(i.ord) as ords,
               array_agg(i.run) as runs, array_agg(i.rn) as rns
          from (select u.account_id, u.price, u.key, u.ord, sum(u.price) over w as run,
                       row_number() over w as rn,
                       u.price > 0 and u.price <= 1000000000000 and scale(u.price) <= 6
                           and pgsaas.is_request(u.key, u.metadata)
                           and (select r.usage_id from pgsaas.usage_records r
                                 where r.account_id = u.account_id and r.idempotency_key = u.key)
                               is null as is_good
                  from unnest(p_account_ids, p_prices, p_idempotency_keys, p_metadata)
                       with ordinality u (account_id, price, key, metadata, ord)
                 where u.account_id <> all (p_denied)
                window w as (partition by u.account_id order by u.ord)) i
         group by i.account_id
        having bool_and(i.is_good is true) and count(i.key) = count(distinct i.key)),
    moved as (
        update pgsaas.account_balances b
           set balance = b.balance - f.amount, head_left = b.head_left - f.amount,
               seq = b.seq + f.n, usage_count = b.usage_count + f.n,
               last_at = greatest(b.last_at, pgsaas.now())
          from folded f
         cross join lateral (
               select x.ctid from pgsaas.account_balances x where x.account_id = f.account_id
                limit 1) t
         where b.ctid = t.ctid and b.head_left - f.amount > b.head_floor
           and b.next_change_at > greatest(b.last_at, pgsaas.now())
        returning b.account_id, b.seq - f.n as seq, b.usage_count - f.n as usage_count,
            b.balance + f.amount as balance, b.last_at, b.head_grant_id,
            b.overdraft_limit - b.held as slack, f.n, f.ords, f.runs, f.rns),
    done as materialized (
        select x.account_id, x.last_at, x.head_grant_id, x.slack, x.ord::integer as ord,
               x.seq + x.rn as seq, x.usage_count + x.rn as usage_id, x.balance - x.run as balance
          from (select m.*, unnest(m.ords) as ord, unnest(m.runs) as run, unnest(m.rns) as rn
                  from moved m) x),
    recorded as (
        insert into pgsaas.usage_records (account_id, usage_id, created_at, occurred_at,
            priced_at, seq, event_name, quantity, cost, balance_after, dimensions,
            idempotency_key, metadata)
        select d.account_id, d.usage_id, d.last_at, coalesce(p_occurred_at[d.ord], d.last_at),
               p_priced_at[d.ord], d.seq, p_events[d.ord],
               trim_scale(p_quantities[d.ord]), p_prices[d.ord], d.balance,
               nullif(p_dimensions[d.ord], '{}'),
               p_idempotency_keys[d.ord],
               nullif(p_metadata[d.ord], '{}')
          from done d),
    written as (
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id,
            transaction_type, amount, balance_after, description)
        select d.account_id, d.seq, d.last_at, d.head_grant_id, 'deduction', -p_prices[d.ord],
               d.balance, p_events[d.ord]
          from done d)
    select array_agg(d.ord), array_agg(d.balance), array_agg(d.balance + d.slack),
           array_agg(d.seq), array_agg(d.usage_id),
           array_agg(distinct d.account_id) filter (where d.usage_id % 100 = 0)
      into p_ords, p_balances, p_availables, p_seqs, p_usage_ids, v_due
      from done d;
    if v_due is not null then
        perform pgsaas.roll_up_usage(d.account_id) from unnest(v_due) d (account_id);
    end if;
end $$;
comment on function pgsaas.charge_fitting_usage(uuid[], text[], numeric[], jsonb[], timestamptz[],
    numeric[], timestamptz[], text[], jsonb[], uuid[]) is
    'Charges and records in one statement the items of locked accounts whose items are all in '
    'order, have new keys and fit the cached head with no alert due; p_prices are what they cost. '
    'Returns the numbers of these items, and their answers.';

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

create or replace function pgsaas.record_usage_account(
    p_account_id uuid, p_events text[], p_quantities numeric[], p_dimensions jsonb[],
    p_occurred_at timestamptz[], p_costs numeric[], p_idempotency_keys text[], p_metadata jsonb[],
    p_prices numeric[], p_priced_at timestamptz[])
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric, usage_id bigint)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_done record;
    v_last record;
begin
    if (select bool_and((i.price > 0 and i.price <= 1000000000000 and scale(i.price) <= 6
                   and pgsaas.is_request(i.key, i.metadata) and r.usage_id is null) is true)
               and count(i.key) = count(distinct i.key)
          from unnest(p_idempotency_keys, p_metadata, p_prices) i (key, metadata, price)
          left join pgsaas.usage_records r
            on r.account_id = p_account_id and r.idempotency_key = i.key)
       and exists (
            select from pgsaas.account_balances b where b.account_id = p_account_id) then
        select array_agg(d.success order by d.ord) as success,
               array_agg(d.new_balance order by d.ord) as new_balances,
               array_agg(d.available order by d.ord) as availables,
               array_agg(d.error_code order by d.ord) as error_codes,
               array_agg(d.error_message order by d.ord) as error_messages,
               array_agg(d.seq order by d.ord) as seqs, count(*) filter (where d.success) as n
          into v_done
          from pgsaas.deduct_slow(p_account_id, p_prices, null, null, p_events, null, null, true)
               with ordinality d (success, new_balance, available, error_code, error_message, seq,
                   replayed, ord);
        update pgsaas.account_balances b set usage_count = b.usage_count + v_done.n
         where b.account_id = p_account_id and v_done.n > 0
        returning b.usage_count - v_done.n as usage_id, b.last_at into v_last;
        return query
            with items as (
                select i.*, case when i.success then v_last.usage_id
                           + count(*) filter (where i.success) over (order by i.ord) end
                           as usage_id
                  from unnest(p_events, p_quantities, p_dimensions, p_occurred_at,
                           p_idempotency_keys, p_metadata, p_prices, p_priced_at, v_done.success,
                           v_done.new_balances, v_done.availables, v_done.error_codes,
                           v_done.error_messages, v_done.seqs)
                       with ordinality i (event, quantity, dimensions, occurred_at, key, metadata,
                           price, priced_at, success, new_balance, available, error_code,
                           error_message, seq, ord)),
            recorded as (
                insert into pgsaas.usage_records (account_id, usage_id, created_at, occurred_at,
                    priced_at, seq, event_name, quantity, cost, balance_after, dimensions,
                    idempotency_key, metadata)
                select p_account_id, i.usage_id, v_last.last_at,
                       coalesce(i.occurred_at, v_last.last_at), i.priced_at, i.seq, i.event,
                       trim_scale(i.quantity), i.price, i.new_balance,
                       nullif(i.dimensions, '{}'), i.key,
                       nullif(i.metadata, '{}')
                  from items i where i.success)
            select i.success, i.new_balance, i.available, i.error_code, i.error_message, i.seq,
                   false, i.price, i.usage_id
              from items i order by i.ord;
        if v_last.usage_id / 100 < (v_last.usage_id + v_done.n) / 100 then
            perform pgsaas.roll_up_usage(p_account_id);
        end if;
    else
        return query
            select r.*
              from unnest(p_events, p_quantities, p_dimensions, p_occurred_at, p_costs,
                       p_idempotency_keys, p_metadata)
                   with ordinality i (event, quantity, dimensions, occurred_at, cost, key,
                       metadata, ord)
             cross join lateral pgsaas.record_usage_item(p_account_id, i.event, i.quantity,
                       i.dimensions, i.occurred_at, i.cost, i.key, i.metadata) r
             order by i.ord;
    end if;
end $$;
comment on function pgsaas.record_usage_account(uuid, text[], numeric[], jsonb[], timestamptz[],
    numeric[], text[], jsonb[], numeric[], timestamptz[]) is
    'What charge_fitting_usage leaves of a batch, for one locked account (null: for none that '
    'there is): its items in their order.';

create or replace function pgsaas.record_usage_batch(
    p_account_ids uuid[], p_events text[], p_quantities numeric[] default null,
    p_dimensions jsonb[] default null, p_occurred_at timestamptz[] default null,
    p_costs numeric[] default null, p_idempotency_keys text[] default null,
    p_metadata jsonb[] default null)
returns table (item integer, success boolean, new_balance numeric, available numeric,
    error_code text, error_message text, seq bigint, replayed boolean, cost numeric,
    usage_id bigint)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
    v_n constant integer := cardinality(p_account_ids);
    v_denied uuid[] := array[]::uuid[];
    v_priced record;
    v_done record;
begin
    if v_n is null or v_n > 10000 or cardinality(p_events) is distinct from v_n
       or cardinality(p_quantities) <> v_n or cardinality(p_dimensions) <> v_n
       or cardinality(p_occurred_at) <> v_n or cardinality(p_costs) <> v_n
       or cardinality(p_idempotency_keys) <> v_n or cardinality(p_metadata) <> v_n then
        raise exception 'a batch is at most 10000 items, in arrays of one length'
            using errcode = '22023';
    end if;
    if not pgsaas.acts_as_system() then
        if array_remove(p_costs, null) <> '{}' then
            raise exception 'only the system states a cost' using errcode = 'PT403';
        end if;
        v_denied := array(select distinct i.id from unnest(p_account_ids) i (id)
                           where i.id is not null and not pgsaas.may(i.id, 'spend'));
    end if;
    p_quantities := coalesce(p_quantities, array_fill(1::numeric, array[v_n]));
    -- charge_fitting_usage counts items from 1
    if '[1:' || v_n || ']' <> any (array[array_dims(p_events), array_dims(p_quantities),
        array_dims(p_dimensions), array_dims(p_occurred_at), array_dims(p_idempotency_keys),
        array_dims(p_metadata)]) then
        p_events := array(select unnest(p_events));
        p_quantities := array(select unnest(p_quantities));
        p_dimensions := array(select unnest(p_dimensions));
        p_occurred_at := array(select unnest(p_occurred_at));
        p_idempotency_keys := array(select unnest(p_idempotency_keys));
        p_metadata := array(select unnest(p_metadata));
    end if;
    perform pgsaas.lock_in_order(array(
        select i.id from unnest(p_account_ids) i (id) where i.id <> all (v_denied)));
    select * into v_priced from pgsaas.price_items(p_events, p_quantities, p_dimensions,
        p_occurred_at, p_costs);
    select * into v_done from pgsaas.charge_fitting_usage(p_account_ids, p_events, p_quantities,
        p_dimensions, p_occurred_at, v_priced.p_prices, v_priced.p_priced_at, p_idempotency_keys,
        p_metadata, v_denied);
    if cardinality(v_done.p_ords) = v_n then
        return query
            select u.ord, true, u.balance, u.available, null::text, null::text, u.seq, false,
                   v_priced.p_prices[u.ord], u.usage_id
              from unnest(v_done.p_ords, v_done.p_balances, v_done.p_availables, v_done.p_seqs,
                       v_done.p_usage_ids) u (ord, balance, available, seq, usage_id)
             order by u.ord;
        return;
    end if;
    return query
        with items as (
            select i.*, i.ord::integer as item, d.ord is not null as is_done, d.balance,
                   d.available, d.seq, d.usage_id, r.record,
                   bool_and((i.account_id <> all (v_denied)
                       and pgsaas.is_request(i.key, i.metadata) and pgsaas.is_same_usage(r.record,
                           i.event, i.quantity, i.dimensions, i.occurred_at, i.cost)) is true)
                       over (partition by i.account_id) as is_known
              from unnest(p_account_ids, p_events, p_quantities, p_dimensions, p_occurred_at,
                       p_costs, p_idempotency_keys, p_metadata, v_priced.p_prices,
                       v_priced.p_priced_at)
                   with ordinality i (account_id, event, quantity, dimensions, occurred_at, cost,
                       key, metadata, price, priced_at, ord)
              left join unnest(v_done.p_ords, v_done.p_balances, v_done.p_availables,
                       v_done.p_seqs, v_done.p_usage_ids)
                   d (ord, balance, available, seq, usage_id) on d.ord = i.ord
              left join lateral (
                   select u as record from pgsaas.usage_records u
                    where d.ord is null and u.account_id = i.account_id
                      and u.idempotency_key = i.key
                    limit 1) r on true),
        others as (
            select case when i.account_id <> all (v_denied) then i.account_id end as account_id,
                   array_agg(i.item order by i.ord) as items,
                   array_agg(i.event order by i.ord) as events,
                   array_agg(i.quantity order by i.ord) as quantities,
                   array_agg(i.dimensions order by i.ord) as dimensions,
                   array_agg(i.occurred_at order by i.ord) as occurred_at,
                   array_agg(i.cost order by i.ord) as costs,
                   array_agg(i.key order by i.ord) as keys,
                   array_agg(i.metadata order by i.ord) as metadata,
                   array_agg(i.price order by i.ord) as prices,
                   array_agg(i.priced_at order by i.ord) as priced_at
              from items i where not i.is_done and not i.is_known group by 1)
        select i.item, true, i.balance, i.available, null, null, i.seq, false, i.price, i.usage_id
          from items i where i.is_done
        union all
        select i.item, a.*
          from items i join pgsaas.account_balances b using (account_id)
         cross join lateral pgsaas.answer_again(b, i.record) a
         where not i.is_done and i.is_known
        union all
        select r.*
          from others o
         cross join lateral rows from (unnest(o.items), pgsaas.record_usage_account(o.account_id,
                   o.events, o.quantities, o.dimensions, o.occurred_at, o.costs, o.keys,
                   o.metadata, o.prices, o.priced_at)) r
         order by 1;
end $$;
comment on function pgsaas.record_usage_batch(uuid[], text[], numeric[], jsonb[], timestamptz[],
    numeric[], text[], jsonb[]) is
    'record_usage for up to 10,000 items, given as arrays of one length (an array may be null as a'
    ' whole; quantities then are 1); answers in item order. Per account the items take effect in '
    'item order, each all or nothing. What record_usage would raise is the item''s own '
    'INVALID_ARGUMENT or KEY_CONFLICT. Locks the accounts in the order of their ids. 22023 for '
    'more items or unequal arrays, PT403 for a user who states costs and for a member who may not '
    'spend.';
