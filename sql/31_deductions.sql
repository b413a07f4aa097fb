-- Deductions: the hot path, one by one and many at once.
--
-- The fast half of deduct_credits is one HOT update and one insert: it serves while the amount
-- leaves something in the cached head and nothing is due, which one comparison with next_change_at
-- guards (-infinity while frozen). Two statements cost less than one with two CTEs. The update
-- takes the lock, so the insert sees every earlier key; a replay finds no place for its row and the
-- update is taken back: rare, and cheaper than a look-up in every call. (A `not exists` inside the
-- update would be stale after a wait.) Everything else is deduct_slow, which has the shape that
-- 30_ledger describes.
--
-- The row lock lasts until the commit has been flushed: call deduct last in a transaction. An
-- account that very many sessions charge at once is cheaper to queue on an advisory lock: list it
-- in the setting pgsaas.hot_accounts (alter database … set pgsaas.hot_accounts = 'id,id'). Nothing
-- depends on that lock.

create or replace function pgsaas.wrong_item(
    p_amount numeric, p_key text, p_metadata jsonb, p_description text, p_agent_id text)
returns text
language plpgsql stable
as $$
begin
    perform pgsaas.check_amount(p_amount);
    perform pgsaas.check_request(p_key, p_metadata, p_description, p_agent_id);
    return null;
exception when invalid_parameter_value then
    return sqlerrm;
end $$;
comment on function pgsaas.wrong_item(numeric, text, jsonb, text, text) is
    'What is wrong with the arguments of one item of a batch; null if nothing is.';

create or replace function pgsaas.deduct_slow(
    p_account_id uuid, p_amounts numeric[], p_job_ids uuid[], p_agent_ids text[],
    p_descriptions text[], p_idempotency_keys text[], p_metadata jsonb[],
    p_is_batch boolean default false)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances := pgsaas.lock_account(p_account_id);
    v_is_settled boolean := false;
    v_item record;
    v_row pgsaas.credit_transactions;
    v_rows pgsaas.credit_transactions[] := array[]::pgsaas.credit_transactions[];
    v_row_of_key integer[] := array[]::integer[];
    v_burned record;
begin
    for v_item in
        select i.*, dense_rank() over (order by i.key) as key_no
          from unnest(p_amounts, p_job_ids, p_agent_ids, p_descriptions, p_idempotency_keys,
                   p_metadata)
               with ordinality i (amount, job_id, agent_id, description, key, metadata, ord)
         order by i.ord
    loop
        success := false;
        replayed := false;
        error_code := null;
        error_message := case when p_is_batch then pgsaas.wrong_item(v_item.amount, v_item.key,
            v_item.metadata, v_item.description, v_item.agent_id) end;
        seq := null;
        v_row := null;
        if v_item.key is not null and error_message is null then
            v_row := v_rows[v_row_of_key[v_item.key_no]];
            if v_row.seq is null then
                select * into v_row from pgsaas.credit_transactions t
                 where t.account_id = p_account_id and t.idempotency_key = v_item.key
                   and t.key_scope = 'd';
            end if;
            if v_row.seq is null and v_b.archived_seq > 0 then
                select k.seq, k.job_id, k.amount, k.balance_after, k.agent_id
                  into v_row.seq, v_row.job_id, v_row.amount, v_row.balance_after, v_row.agent_id
                  from pgsaas.archived_keys k
                 where k.account_id = p_account_id and k.idempotency_key = v_item.key
                   and k.key_scope = 'd';
            end if;
        end if;
        if v_b.account_id is not null and error_message is null and v_row.seq is null
           and not v_is_settled then
            v_b := pgsaas.settle_account(v_b);
            v_is_settled := true;
        end if;
        new_balance := v_b.balance;
        available := pgsaas.available(case when v_is_settled then v_b
            else pgsaas.project_account(v_b) end);
        if error_message is not null then
            error_code := 'INVALID_ARGUMENT';
            new_balance := null;
            available := null;
        elsif v_b.account_id is null then
            error_code := 'ACCOUNT_NOT_FOUND';
            error_message := 'no such account';
            available := null;
        -- the row holds every argument of the request: no hash is needed to compare them
        elsif v_row.amount = -v_item.amount and v_row.job_id is not distinct from v_item.job_id
              and v_row.agent_id is not distinct from v_item.agent_id then
            success := true;
            replayed := true;
            seq := v_row.seq;
            new_balance := v_row.balance_after;
        elsif v_row.seq is not null then
            if not p_is_batch then
                perform pgsaas.raise_key_conflict(v_item.key);
            end if;
            error_code := 'KEY_CONFLICT';
            error_message := 'the idempotency key was used for another request';
        elsif v_b.is_frozen then
            error_code := 'ACCOUNT_FROZEN';
            error_message := 'the account is frozen';
        elsif available < v_item.amount and not pgsaas.is_shadow() then
            error_code := 'INSUFFICIENT_CREDITS';
            error_message := format('not enough credits: %s needed, %s available',
                trim_scale(v_item.amount), trim_scale(available));
        else
            v_item.amount := trim_scale(v_item.amount);
            v_b.seq := v_b.seq + 1;
            v_b.balance := v_b.balance - v_item.amount;
            success := true;
            seq := v_b.seq;
            new_balance := v_b.balance;
            available := pgsaas.available(v_b);
            v_row.seq := seq;
            v_row.balance_after := new_balance;
            v_row.amount := -v_item.amount;
            v_row.job_id := v_item.job_id;
            v_row.agent_id := v_item.agent_id;
            v_row.description := v_item.description;
            v_row.idempotency_key := v_item.key;
            v_row.metadata := nullif(v_item.metadata, '{}');
            v_rows := v_rows || v_row;
            v_row_of_key[v_item.key_no] := cardinality(v_rows);
        end if;
        return next;
    end loop;
    if cardinality(v_rows) > 0 then
        select * into v_burned from pgsaas.burn(v_b, array(
            select -r.amount from unnest(v_rows) with ordinality r order by r.ordinality));
        v_b := v_burned.p_b;
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, job_id,
            key_scope, transaction_type, amount, balance_after, agent_id, description,
            idempotency_key, allocations, metadata)
        select p_account_id, r.seq, v_b.last_at, n.grant_id, r.job_id,
               case when r.idempotency_key is not null then 'd'::"char" end, 'deduction', r.amount,
               r.balance_after, r.agent_id, r.description, r.idempotency_key, n.allocations,
               r.metadata
          from unnest(v_rows) with ordinality r
          join unnest(v_burned.p_allocations) with ordinality a (parts, place)
            on a.place = r.ordinality
         cross join lateral pgsaas.allocated(null, a.parts) n
         order by r.seq;
    end if;
    if v_is_settled then
        perform pgsaas.store_balance(v_b);
    end if;
end $$;
comment on function pgsaas.deduct_slow(uuid, numeric[], uuid[], text[], text[], text[], jsonb[],
    boolean) is
    'The slow half of deduct_credits and of its batch: whatever the cached head cannot answer, '
    'replays included, for items of one account in their order. Wrong arguments and a key that was '
    'used for another request are answered in a batch; else the former have been refused before '
    'and the latter raises PT409.';

create or replace function pgsaas.is_new_key(p_account_id uuid, p_key text) returns boolean
language plpgsql volatile
as $$
begin
    return p_key is null or not exists (select from pgsaas.archived_keys k
        where k.account_id = p_account_id and k.idempotency_key = p_key and k.key_scope = 'd');
end $$;
comment on function pgsaas.is_new_key(uuid, text) is
    'Whether no archived deduction of a locked account has this key; the ledger itself is not '
    'looked at.';

create or replace function pgsaas.deduct_credits(
    p_account_id uuid, p_amount numeric, p_job_id uuid default null, p_agent_id text default null,
    p_description text default null, p_idempotency_key text default null,
    p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_at timestamptz;
    v_grant_id bigint;
    v_is_new boolean;
begin
    -- Whatever is rarely so, in one expression: plpgsql prepares each anew in every transaction,
    -- and there each function or operator costs a look at its privileges. It may be wider than the
    -- rules; the calls below know them. A null amount never fits a head.
    if p_amount <= 0 or p_amount > 1000000000000 or scale(p_amount) > 6
       or p_idempotency_key = '' or p_metadata <> '{}'
       or greatest(octet_length(p_idempotency_key), octet_length(p_agent_id),
           octet_length(p_description)) > 255
       or greatest(current_setting('request.jwt.claims', true),
           current_setting('pgsaas.actor', true),
           current_setting('pgsaas.hot_accounts', true)) <> '' then
        p_amount := pgsaas.check_amount(p_amount);
        perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description, p_agent_id);
        if not pgsaas.may(p_account_id, 'spend') then
            p_account_id := null;
        end if;
        perform pgsaas.queue_if_hot(p_account_id);
    end if;
    -- an account with a head owes nothing, so what is available is not below 0
    update pgsaas.account_balances b
       set balance = b.balance - p_amount, head_left = b.head_left - p_amount, seq = b.seq + 1,
           last_at = greatest(b.last_at, pgsaas.now())
     where b.account_id = p_account_id and b.head_left - p_amount > b.head_floor
       and b.next_change_at > greatest(b.last_at, pgsaas.now())
    returning b.seq, b.balance, b.balance - b.held + b.overdraft_limit, b.last_at,
        b.head_grant_id, b.archived_seq = 0, true, false
      into seq, new_balance, available, v_at, v_grant_id, v_is_new, success, replayed;
    if v_is_new is false then
        v_is_new := pgsaas.is_new_key(p_account_id, p_idempotency_key);
    end if;
    if v_is_new then
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, job_id,
            key_scope, transaction_type, amount, balance_after, agent_id, description,
            idempotency_key, metadata)
        values (p_account_id, seq, v_at, v_grant_id, p_job_id,
            case when p_idempotency_key is not null then 'd'::"char" end, 'deduction', -p_amount,
            new_balance, p_agent_id, p_description, p_idempotency_key, nullif(p_metadata, '{}'))
        on conflict (account_id, idempotency_key, key_scope)
            where idempotency_key is not null do nothing;
        if found then
            return next;
            return;
        end if;
    end if;
    if v_is_new is not null then
        update pgsaas.account_balances b
           set balance = b.balance + p_amount, head_left = b.head_left + p_amount, seq = b.seq - 1
         where b.account_id = p_account_id;
    else
        p_amount := pgsaas.check_amount(p_amount);
    end if;
    return query select * from pgsaas.deduct_slow(p_account_id, array[p_amount],
        array[p_job_id], array[p_agent_id], array[p_description], array[p_idempotency_key],
        array[p_metadata]);
end $$;
comment on function pgsaas.deduct_credits(uuid, numeric, uuid, text, text, text, jsonb) is
    'Charges an account, in the caller''s transaction: refused (INSUFFICIENT_CREDITS) if less is '
    'available than asked for, never in part. Grants burn in the account''s burn order. '
    'ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN. With a key it has one effect, ever: a repeat with the same '
    'amount, job and agent is answered as the first was (replayed), another request under the key '
    'raises PT409. 22023 for wrong arguments.';

-- Items are folded per account before the update (joining two CTEs of 1,000 rows is quadratic).
-- What the update does not need is not folded but fetched from the arrays, in constant time: in a
-- generic plan plpgsql passes an array taken apart, a custom plan would search a constant from its
-- start for each item. A session keeps that plan, so it must not depend on how small the tables
-- were, or how empty an index, when it was made: `limit 1` lets nobody begin with all balances.
create or replace function pgsaas.deduct_fitting(
    p_account_ids uuid[], p_amounts numeric[], p_job_ids uuid[], p_agent_ids text[],
    p_descriptions text[], p_idempotency_keys text[], p_metadata jsonb[], p_denied uuid[],
    out p_ords integer[], out p_balances numeric[], out p_availables numeric[],
    out p_seqs bigint[])
language plpgsql volatile set plan_cache_mode = 'force_generic_plan' set enable_seqscan = off
as $$
begin
    -- subscripts below count from 1
    if '[1:' || cardinality(p_amounts) || ']' <> any (array[array_dims(p_amounts),
        array_dims(p_job_ids), array_dims(p_agent_ids), array_dims(p_descriptions),
        array_dims(p_idempotency_keys), array_dims(p_metadata)]) then
        p_amounts := array(select unnest(p_amounts));
        p_job_ids := array(select unnest(p_job_ids));
        p_agent_ids := array(select unnest(p_agent_ids));
        p_descriptions := array(select unnest(p_descriptions));
        p_idempotency_keys := array(select unnest(p_idempotency_keys));
        p_metadata := array(select unnest(p_metadata));
    end if;
    with folded as (
        select i.account_id, sum(i.amount) as amount, count(*) as n, count(i.key) as n_keys,
               array_agg(i.ord) as ords, array_agg(i.run) as runs, array_agg(i.rn) as rns
          from (select u.account_id, u.amount, u.key, u.ord, sum(u.amount) over w as run,
                       row_number() over w as rn,
                       (u.amount > 0 and u.amount <= 1000000000000
                           and scale(u.amount) <= 6) is true
                           and (octet_length(u.key) not between 1 and 255
                               or octet_length(u.agent_id) > 255
                               or octet_length(u.description) > 4096
                               or jsonb_typeof(u.metadata) <> 'object'
                               or octet_length(u.metadata::text) > 16384) is not true
                           -- One whole unique key an item, whatever the statistics say. The lock is
                           -- held: this look cannot be stale.
                           and (select t.seq from pgsaas.credit_transactions t
                                 where t.account_id = u.account_id and t.idempotency_key = u.key
                                   and t.key_scope = 'd') is null as is_good
                  from unnest(p_account_ids, p_amounts, p_agent_ids, p_descriptions,
                           p_idempotency_keys, p_metadata)
                       with ordinality u (account_id, amount, agent_id, description, key, metadata,
                           ord)
                 where u.account_id <> all (p_denied)
                window w as (partition by u.account_id order by u.ord)) i
         group by i.account_id
        having bool_and(i.is_good) and count(i.key) = count(distinct i.key)),
    moved as (
        update pgsaas.account_balances b
           set balance = b.balance - f.amount, head_left = b.head_left - f.amount,
               seq = b.seq + f.n, last_at = greatest(b.last_at, pgsaas.now())
          from folded f
         cross join lateral (
               select x.ctid from pgsaas.account_balances x where x.account_id = f.account_id
                limit 1) t
         where b.ctid = t.ctid and b.head_left - f.amount > b.head_floor
           and b.next_change_at > greatest(b.last_at, pgsaas.now())
           and (b.archived_seq = 0 or f.n_keys = 0)
        returning b.account_id, b.seq - f.n as seq, b.balance + f.amount as balance, b.last_at,
            b.head_grant_id, b.overdraft_limit - b.held as slack, f.ords, f.runs, f.rns),
    done as materialized (
        select x.account_id, x.last_at, x.head_grant_id, x.slack, x.ord::integer as ord,
               x.seq + x.rn as seq, x.balance - x.run as balance
          from (select m.*, unnest(m.ords) as ord, unnest(m.runs) as run, unnest(m.rns) as rn
                  from moved m) x),
    written as (
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, job_id,
            key_scope, transaction_type, amount, balance_after, agent_id, description,
            idempotency_key, metadata)
        select d.account_id, d.seq, d.last_at, d.head_grant_id, p_job_ids[d.ord],
               case when p_idempotency_keys[d.ord] is not null then 'd'::"char" end, 'deduction',
               -p_amounts[d.ord], d.balance, p_agent_ids[d.ord], p_descriptions[d.ord],
               p_idempotency_keys[d.ord], nullif(p_metadata[d.ord], '{}')
          from done d)
    select array_agg(d.ord), array_agg(d.balance), array_agg(d.seq), array_agg(d.balance + d.slack)
      into p_ords, p_balances, p_seqs, p_availables
      from done d;
end $$;
comment on function pgsaas.deduct_fitting(uuid[], numeric[], uuid[], text[], text[], text[],
    jsonb[], uuid[]) is
    'The fast half of deduct_credits_batch: charges in one statement the locked accounts whose '
    'items are all in order, have new keys and fit the cached head with no alert due. Returns the '
    'numbers of the items that were charged, and their answers.';

create or replace function pgsaas.deduct_credits_batch(
    p_account_ids uuid[], p_amounts numeric[], p_job_ids uuid[] default null,
        p_agent_ids text[] default null,
    p_descriptions text[] default null, p_idempotency_keys text[] default null,
        p_metadata jsonb[] default null)
returns table (item integer, success boolean, new_balance numeric, available numeric,
    error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
declare
    v_n integer := cardinality(p_account_ids);
    v_denied uuid[] := array[]::uuid[];
    v_ords integer[];
    v_balances numeric[];
    v_availables numeric[];
    v_seqs bigint[];
begin
    if v_n is null or v_n > 10000 or cardinality(p_amounts) is distinct from v_n
        or cardinality(p_job_ids) <> v_n
       or cardinality(p_agent_ids) <> v_n or cardinality(p_descriptions) <> v_n
       or cardinality(p_idempotency_keys) <> v_n or cardinality(p_metadata) <> v_n then
        raise exception 'a batch is at most 10000 items, in arrays of one length' using errcode
            = '22023';
    end if;
    if not pgsaas.acts_as_system() then
        v_denied := array(select distinct i.id from unnest(p_account_ids) i (id)
                           where i.id is not null and not pgsaas.may(i.id, 'spend'));
    end if;
    perform pgsaas.lock_in_order(array(
        select i.id from unnest(p_account_ids) i (id) where i.id <> all (v_denied)));
    select f.p_ords, f.p_balances, f.p_availables, f.p_seqs
      into v_ords, v_balances, v_availables, v_seqs
      from pgsaas.deduct_fitting(p_account_ids, p_amounts, p_job_ids, p_agent_ids, p_descriptions,
          p_idempotency_keys, p_metadata, v_denied) f;
    if cardinality(v_ords) = v_n then
        return query
            select u.ord, true, u.balance, u.available, null::text, null::text, u.seq,
                false
              from unnest(v_ords, v_balances, v_availables, v_seqs) u (ord, balance, available, seq)
             order by u.ord;
        return;
    end if;
    return query
        with items as (
            select i.*, i.ord::integer as item, d.ord is not null as is_done, d.balance,
                   d.available, d.seq
              from unnest(p_account_ids, p_amounts, p_job_ids, p_agent_ids, p_descriptions,
                       p_idempotency_keys, p_metadata)
                   with ordinality i (account_id, amount, job_id, agent_id, description, key,
                       metadata, ord)
              left join unnest(v_ords, v_balances, v_availables, v_seqs)
                   d (ord, balance, available, seq) on d.ord = i.ord),
        others as (
            select case when i.account_id <> all (v_denied) then i.account_id end as account_id,
                   array_agg(i.item order by i.ord) as items,
                   array_agg(i.amount order by i.ord) as amounts,
                   array_agg(i.job_id order by i.ord) as job_ids,
                   array_agg(i.agent_id order by i.ord) as agent_ids,
                   array_agg(i.description order by i.ord) as descriptions,
                   array_agg(i.key order by i.ord) as keys,
                   array_agg(i.metadata order by i.ord) as metadata
              from items i where not i.is_done group by 1)
        select i.item, true, i.balance, i.available, null, null, i.seq, false
          from items i where i.is_done
        union all
        select d.item, d.success, d.new_balance, d.available, d.error_code, d.error_message,
               d.seq, d.replayed
          from others o
         cross join lateral rows from (unnest(o.items), pgsaas.deduct_slow(o.account_id,
                   o.amounts, o.job_ids, o.agent_ids, o.descriptions, o.keys, o.metadata, true))
               d (item, success, new_balance, available, error_code, error_message, seq, replayed)
         order by 1;
end $$;
comment on function pgsaas.deduct_credits_batch(uuid[], numeric[], uuid[], text[], text[], text[],
    jsonb[]) is
    'deduct_credits for up to 10,000 items, given as arrays of one length (an array may be null as '
    'a whole); answers in item order. Per account the items take effect in item order, each all or '
    'nothing. An item''s wrong arguments are its own INVALID_ARGUMENT, a key used for another '
    'request its KEY_CONFLICT. Locks the accounts in the order of their ids. 22023 for more items '
    'or unequal arrays.';
