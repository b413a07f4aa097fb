-- Deductions: the hot path, one by one and many at once. With 30_ledger the only room that writes
-- balances and transactions.
--
-- The fast half of deduct_credits is one HOT update and one insert: it serves while the amount fits
-- the cached head and nothing is due, which one comparison with next_change_at guards (-infinity
-- while frozen). Two statements cost less than one with two CTEs. The update takes the lock, so the
-- insert sees every earlier key; a replay finds no place for its row and the update is taken back:
-- rare, and cheaper than a look-up in every call. (A `not exists` inside the update would be stale
-- after a wait.) Everything else is deduct_slow, which has the shape that 30_ledger describes.
--
-- The row lock lasts until the commit has been flushed: call deduct last in a transaction. An
-- account that very many sessions charge at once is cheaper to queue on an advisory lock: list it
-- in the setting pgsaas.hot_accounts (alter database … set pgsaas.hot_accounts = 'id,id'). Nothing
-- depends on that lock.

create or replace function pgsaas.deduct_slow(
    p_account_id uuid, p_amount numeric, p_job_id uuid, p_agent_id text, p_description text,
    p_idempotency_key text, p_metadata jsonb, p_answer_conflicts boolean default false)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances := pgsaas.lock_account(p_account_id);
    v_row pgsaas.credit_transactions;
    v_burned record;
begin
    success := false;
    replayed := false;
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    if p_idempotency_key is not null then
        select * into v_row from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.idempotency_key = p_idempotency_key
             and t.key_scope = 'd';
        if not found and v_b.archived_seq > 0 then
            select k.seq, k.job_id, k.amount, k.balance_after, k.agent_id
              into v_row.seq, v_row.job_id, v_row.amount, v_row.balance_after, v_row.agent_id
              from pgsaas.archived_keys k
             where k.account_id = p_account_id and k.idempotency_key = p_idempotency_key
                 and k.key_scope = 'd';
        end if;
        if v_row.seq is not null then
            available := pgsaas.available(v_b);
            -- the row holds every argument of the request: no hash is needed to compare them
            if v_row.amount = -p_amount and v_row.job_id is not distinct from p_job_id
               and v_row.agent_id is not distinct from p_agent_id then
                success := true;
                replayed := true;
                seq := v_row.seq;
                new_balance := v_row.balance_after;
            elsif p_answer_conflicts then
                error_code := 'KEY_CONFLICT';
                error_message := 'the idempotency key was used for another request';
                new_balance := v_b.balance;
            else
                perform pgsaas.raise_key_conflict(p_idempotency_key);
            end if;
            return next;
            return;
        end if;
    end if;
    v_b := pgsaas.settle_account(v_b);
    if v_b.is_frozen then
        error_code := 'ACCOUNT_FROZEN';
        error_message := 'the account is frozen';
    elsif pgsaas.available(v_b) < p_amount then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s needed, %s available', trim_scale(p_amount),
            trim_scale(pgsaas.available(v_b)));
    else
        success := true;
        select * into v_burned from pgsaas.burn(v_b, p_amount);
        v_b := v_burned.p_b;
        v_row := pgsaas.allocated(pgsaas.new_row('deduction', -p_amount, v_b.last_at),
            v_burned.p_allocations);
        v_row.job_id := p_job_id;
        v_row.agent_id := p_agent_id;
        v_row.description := p_description;
        v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'd', p_metadata => p_metadata);
        seq := v_b.seq;
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.deduct_slow(uuid, numeric, uuid, text, text, text, jsonb, boolean) is
    'The slow half of deduct_credits: whatever the cached head cannot answer, replays included. A '
    'key that was used for another request raises PT409, or is answered KEY_CONFLICT if so asked.';

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
    v_is_archived boolean;
begin
    -- One expression for everything that is rarely so: plpgsql prepares each anew in every
    -- transaction.
    if p_amount is null or not (p_amount > 0 and p_amount <= 1000000000000)
       or p_amount <> round(p_amount, 6) or octet_length(p_idempotency_key) not between 1 and 255
       or pg_column_size(p_metadata) > 16384 or jsonb_typeof(p_metadata) <> 'object'
       or octet_length(p_description) > 4096 or octet_length(p_agent_id) > 255
       or current_setting('request.jwt.claims', true) <> ''
       or current_setting('pgsaas.actor', true) <> ''
       or current_setting('pgsaas.hot_accounts', true) <> '' then
        perform pgsaas.check_amount(p_amount);
        perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description, p_agent_id);
        if not pgsaas.may(p_account_id, 'spend') then
            p_account_id := null;
        end if;
        perform pgsaas.queue_if_hot(p_account_id);
    end if;
    update pgsaas.account_balances b
       set balance = b.balance - p_amount, head_left = b.head_left - p_amount, seq = b.seq + 1,
           last_at = greatest(b.last_at, pgsaas.now())
     where b.account_id = p_account_id and b.head_left >= p_amount
       and b.next_change_at > pgsaas.now() and b.next_change_at > b.last_at
       and (b.balance - b.held >= b.low_balance_at and b.balance - b.held - p_amount
           < b.low_balance_at) is not true
    returning b.seq, b.balance, greatest(0, b.balance - b.held + b.overdraft_limit), b.last_at,
        b.head_grant_id,
        b.archived_seq > 0, true, false
      into seq, new_balance, available, v_at, v_grant_id, v_is_archived, success, replayed;
    if found then
        if v_is_archived then
            success := not exists (select from pgsaas.archived_keys k
                where k.account_id = p_account_id
                                      and k.idempotency_key = p_idempotency_key
                                          and k.key_scope = 'd');
        end if;
        if success then
            insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, job_id,
                key_scope,
                transaction_type, amount, balance_after, agent_id, description, idempotency_key,
                    metadata)
            values (p_account_id, seq, v_at, v_grant_id, p_job_id,
                case when p_idempotency_key is not null then 'd'::"char" end, 'deduction',
                    -p_amount,
                new_balance, p_agent_id, p_description, p_idempotency_key, nullif(p_metadata, '{}'))
            on conflict (account_id, idempotency_key, key_scope)
                where idempotency_key is not null do nothing;
            if found then
                return next;
                return;
            end if;
        end if;
        update pgsaas.account_balances b
           set balance = b.balance + p_amount, head_left = b.head_left + p_amount, seq = b.seq - 1
         where b.account_id = p_account_id;
    end if;
    return query select * from pgsaas.deduct_slow(p_account_id, p_amount, p_job_id, p_agent_id,
        p_description,
        p_idempotency_key, p_metadata);
end $$;
comment on function pgsaas.deduct_credits(uuid, numeric, uuid, text, text, text, jsonb) is
    'Charges an account, in the caller''s transaction: refused (INSUFFICIENT_CREDITS) if less is '
    'available than asked for, never in part. Grants burn in the account''s burn order. '
    'ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN. With a key it has one effect, ever: a repeat with the same '
    'amount, job and agent is answered as the first was (replayed), another request under the key '
    'raises PT409. 22023 for wrong arguments.';

-- Items are folded per account before the update (joining two CTEs of 1,000 rows is quadratic, and
-- so is subscripting an array parameter per item). An account whose items all fit its head, with
-- new keys and no alert, is charged in the one statement; every other account goes item by item.
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
    v_now timestamptz := pgsaas.now();
    v_n integer := cardinality(p_account_ids);
    v_denied uuid[] := array[]::uuid[];
    v_ords bigint[];
    v_balances numeric[];
    v_availables numeric[];
    v_seqs bigint[];
    v_item record;
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
            where not pgsaas.may(i.id, 'spend'));
    end if;
    perform pgsaas.lock_in_order(p_account_ids);
    with items as (
        select u.*, sum(u.amount) over w as run, row_number() over w as rn,
               coalesce(u.amount > 0 and u.amount <= 1000000000000 and u.amount = round(u.amount,
                   6), false)
                   and coalesce(octet_length(u.key) between 1 and 255, true)
                   and coalesce(octet_length(u.agent_id) <= 255, true)
                   and coalesce(octet_length(u.description) <= 4096, true)
                   and coalesce(jsonb_typeof(u.metadata) = 'object'
                       and pg_column_size(u.metadata) <= 16384, true)
                   as is_good
          from unnest(p_account_ids, p_amounts, p_job_ids, p_agent_ids, p_descriptions,
              p_idempotency_keys,
                   p_metadata) with ordinality u (account_id, amount, job_id, agent_id,
                       description, key, metadata, ord)
        window w as (partition by u.account_id order by u.ord)),
    folded as (
        select i.account_id, sum(i.amount) as amount, count(*) as n, array_agg(i.ord) as ords,
               array_agg(i.amount) as amounts, array_agg(i.job_id) as job_ids,
                   array_agg(i.agent_id) as agent_ids,
               array_agg(i.description) as descriptions, array_agg(i.key) as keys,
               array_agg(i.metadata) as metadata, array_agg(i.run) as runs, array_agg(i.rn) as rns,
               count(i.key) as n_keys
          from items i where i.account_id <> all (v_denied) group by i.account_id
        having bool_and(i.is_good) and count(i.key) = count(distinct i.key)),
    moved as (
        update pgsaas.account_balances b
           set balance = b.balance - f.amount, head_left = b.head_left - f.amount,
               seq = b.seq + f.n,
               last_at = greatest(b.last_at, v_now)
          from folded f
         where b.account_id = f.account_id and b.head_left >= f.amount
           and b.next_change_at > v_now and b.next_change_at > b.last_at
           and (b.archived_seq = 0 or f.n_keys = 0)
           and (b.balance - b.held - f.amount < b.low_balance_at
                and b.balance - b.held >= b.low_balance_at) is not true
           -- the lock is held: this look cannot be stale
           and not exists (select from pgsaas.credit_transactions t
                            where t.account_id = f.account_id and t.idempotency_key = any (f.keys)
                              and t.key_scope = 'd')
        returning b.account_id, b.seq - f.n as seq, b.balance + f.amount as balance, b.last_at,
            b.head_grant_id, b.overdraft_limit - b.held as slack, f.ords, f.amounts, f.job_ids,
                f.agent_ids,
            f.descriptions, f.keys, f.metadata, f.runs, f.rns),
    written as (
        insert into pgsaas.credit_transactions (account_id, seq, created_at, grant_id, job_id,
            key_scope,
            transaction_type, amount, balance_after, agent_id, description, idempotency_key,
                metadata)
        select m.account_id, m.seq + x.rn, m.last_at, m.head_grant_id, x.job_id,
               case when x.key is not null then 'd'::"char" end, 'deduction', -x.amount,
               m.balance - x.run, x.agent_id, x.description, x.key, nullif(x.metadata, '{}')
          from moved m, unnest(m.amounts, m.job_ids, m.agent_ids, m.descriptions, m.keys,
              m.metadata, m.runs, m.rns)
               x (amount, job_id, agent_id, description, key, metadata, run, rn))
    select array_agg(x.ord), array_agg(m.balance - x.run), array_agg(m.seq + x.rn),
           array_agg(greatest(0, m.balance - x.run + m.slack))
      into v_ords, v_balances, v_seqs, v_availables
      from moved m, unnest(m.ords, m.runs, m.rns) x (ord, run, rn);
    if cardinality(v_ords) = v_n then
        return query
            select u.ord::integer, true, u.balance, u.available, null::text, null::text, u.seq,
                false
              from unnest(v_ords, v_balances, v_availables, v_seqs) u (ord, balance, available, seq)
             order by u.ord;
        return;
    end if;
    for v_item in
        select i.ord::integer as ord, i.account_id, i.amount, i.job_id, i.agent_id, i.description,
            i.key, i.metadata,
               d.ord is not null as is_done, d.balance, d.available, d.seq
          from unnest(p_account_ids, p_amounts, p_job_ids, p_agent_ids, p_descriptions,
              p_idempotency_keys, p_metadata)
               with ordinality i (account_id, amount, job_id, agent_id, description, key, metadata,
                   ord)
          left join unnest(v_ords, v_balances, v_availables, v_seqs) d (ord, balance, available,
              seq)
            on d.ord = i.ord
         order by i.ord
    loop
        item := v_item.ord;
        success := v_item.is_done;
        new_balance := v_item.balance;
        available := v_item.available;
        seq := v_item.seq;
        error_code := null;
        error_message := null;
        replayed := false;
        if not success then
            error_message := pgsaas.wrong_item(v_item.amount, v_item.key, v_item.metadata,
                v_item.description,
                v_item.agent_id);
            if error_message is not null then
                error_code := 'INVALID_ARGUMENT';
            else
                select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq,
                    d.replayed
                  into success, new_balance, available, error_code, error_message, seq, replayed
                  from pgsaas.deduct_slow(
                      case when v_item.account_id <> all (v_denied) then v_item.account_id end,
                          v_item.amount,
                      v_item.job_id, v_item.agent_id, v_item.description, v_item.key,
                      coalesce(v_item.metadata, '{}'), true) d;
            end if;
        end if;
        return next;
    end loop;
end $$;
comment on function pgsaas.deduct_credits_batch(uuid[], numeric[], uuid[], text[], text[], text[],
    jsonb[]) is
    'deduct_credits for up to 10,000 items, given as arrays of one length (an array may be null as '
    'a whole); answers in item order. Per account the items take effect in item order, each all or '
    'nothing. An item''s wrong arguments are its own INVALID_ARGUMENT, a key used for another '
    'request its KEY_CONFLICT. Locks the accounts in the order of their ids. 22023 for more items '
    'or unequal arrays.';
