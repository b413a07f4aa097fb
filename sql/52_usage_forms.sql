-- Other ways to use: a query that is priced by its tools, and work that was paid by a hold.
--
-- Both record what was used as record_usage does (50_usage), and share its keys; a hash remembers
-- the arguments that the record does not hold. A hold that is captured pays as capture_hold says, a
-- cost of 0 releases it. Lock rule: the account's row, first.

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
    p_metadata := coalesce(p_metadata, '{}') || jsonb_build_object('tools', p_tools);
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
    v_record := pgsaas.usage_of_key(p_account_id, p_idempotency_key);
    if v_record.usage_id is not null then
        if v_record.request_hash is distinct from v_hash then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        return query select * from pgsaas.answer_again(v_b, v_record);
        return;
    end if;
    select q.cost, q.error_code, q.error_message into cost, error_code, error_message
      from pgsaas.query_cost(p_tools) q;
    if error_code is not null then
        return query select * from pgsaas.answer_unpriced(v_b, error_code, error_message);
        return;
    elsif cost > 0 then
        select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq
          into success, new_balance, available, error_code, error_message, seq
          from pgsaas.deduct_slow(p_account_id, array[pgsaas.check_amount(cost, 'cost')],
              array[null::uuid], array[null::text], array[coalesce(p_description, 'query')],
              array[null::text], array[null::jsonb]) d;
    else
        select f.* into success, new_balance, available, error_code, error_message
          from pgsaas.charge_nothing(v_b) f;
    end if;
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
        v_record.metadata := p_metadata;
        v_record.balance_after := new_balance;
        usage_id := pgsaas.store_usage(v_record);
    end if;
    return next;
end $$;
comment on function pgsaas.check_and_deduct_credits(uuid, text[], text, text, jsonb) is
    'Charges a query that used these tools what calculate_query_cost says, if it is available, and'
    ' records it as use of the event "query", with the tools in its metadata. '
    'INSUFFICIENT_CREDITS, ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN, EVENT_NOT_FOUND and EVENT_INACTIVE '
    'where queries have no price. With a key, which record_usage shares, it has one effect, ever.';

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
    v_priced record;
    v_record pgsaas.usage_records;
begin
    p_quantity := pgsaas.check_amount(p_quantity, 'quantity');
    perform pgsaas.check_request(p_idempotency_key, p_metadata);
    perform pgsaas.check_shortfall(p_shortfall);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(p_hold_id::text, p_event, p_quantity::text,
        nullif(p_dimensions, '{}')::text, p_shortfall);
    v_record := pgsaas.usage_of_key(p_account_id, p_idempotency_key);
    if v_record.usage_id is not null then
        if v_record.request_hash is distinct from v_hash then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        return query select * from pgsaas.answer_again(v_b, v_record);
        return;
    end if;
    v_record.account_id := p_account_id;
    v_record.created_at := greatest(pgsaas.now(), v_b.last_at);
    v_record.occurred_at := v_record.created_at;
    v_record.event_name := p_event;
    v_record.quantity := p_quantity;
    v_record.dimensions := nullif(p_dimensions, '{}');
    v_record.idempotency_key := p_idempotency_key;
    v_record.request_hash := v_hash;
    v_record.metadata := nullif(p_metadata, '{}');
    select * into v_priced from pgsaas.price_record(v_b, v_record);
    if v_priced.p_error_code is not null then
        return query select * from pgsaas.answer_unpriced(v_b, v_priced.p_error_code,
            v_priced.p_error_message);
        return;
    end if;
    v_record := v_priced.p_record;
    if v_record.cost > 0 then
        select c.success, c.new_balance, c.available, c.error_code, c.error_message, c.seq,
               c.captured
          into success, new_balance, available, error_code, error_message, v_record.seq,
               v_record.cost
          from pgsaas.capture_hold(p_account_id, p_hold_id, v_record.cost, p_shortfall) c;
    else
        select r.success, r.new_balance, r.available, r.error_code, r.error_message
          into success, new_balance, available, error_code, error_message
          from pgsaas.release_hold(p_account_id, p_hold_id) r;
    end if;
    cost := v_record.cost;
    if success then
        seq := v_record.seq;
        v_record.balance_after := new_balance;
        usage_id := pgsaas.store_usage(v_record, v_priced.p_counted);
    end if;
    return next;
end $$;
comment on function pgsaas.capture_usage(uuid, bigint, text, numeric, jsonb, text, text, jsonb) is
    'Ends work that was paid by a hold: prices what it used, captures that much of the hold '
    '(p_shortfall as in capture_hold: partial unless said otherwise) and records it. cost is what '
    'was captured. What capture_hold answers, EVENT_NOT_FOUND, EVENT_INACTIVE: then the hold stays '
    'open. With a key, which record_usage shares, it has one effect, ever. 22023 for wrong '
    'arguments.';
