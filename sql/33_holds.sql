-- Holds: credits reserved for work that is still running.
--
-- A hold burns grants in burn order into its own allocations and writes no ledger row; the balance
-- keeps the credits, `held` counts them. Capture turns them into a row and gives the rest back to
-- the grants they came from; release gives everything back; a hold whose time has passed lapses by
-- itself at that time, whether or not anybody looks (29_settlement). What is held does not expire
-- while it is held, and cannot roll over.
--
-- Where nothing is due, a hold that the cached head covers changes no grant, and neither does its
-- end: the head is less, or more again. next_change_at guards that, as in 31_deductions.

create or replace function pgsaas.check_ttl(p_ttl interval) returns interval
language plpgsql immutable parallel safe
as $$
begin
    if p_ttl is null or extract(epoch from p_ttl) <= 0 or extract(epoch from p_ttl) > 86400 then
        raise exception 'ttl must be above 0 and at most 24 hours' using errcode = '22023';
    end if;
    return pgsaas.exact_interval(p_ttl);
end $$;
comment on function pgsaas.check_ttl(interval) is
    'The ttl in seconds; raises 22023 unless it is above 0 and at most 24 hours.';

create or replace function pgsaas.hold_credits(
    p_account_id uuid, p_amount numeric, p_ttl interval default '15 minutes',
        p_job_id uuid default null,
    p_agent_id text default null, p_description text default null,
        p_idempotency_key text default null,
    p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, hold_id bigint, expires_at timestamptz)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hold pgsaas.credit_holds;
    v_ttl interval := pgsaas.check_ttl(p_ttl);
    v_hash bytea;
    v_is_head boolean;
    v_parts jsonb;
    v_burned record;
begin
    p_amount := pgsaas.check_amount(p_amount);
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description, p_agent_id);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(trim_scale(p_amount)::text, extract(epoch from v_ttl)::text,
        p_job_id::text,
        p_agent_id);
    if p_idempotency_key is not null then
        select * into v_hold from pgsaas.credit_holds h
         where h.account_id = p_account_id and h.idempotency_key = p_idempotency_key;
        if found then
            if v_hold.request_hash is distinct from v_hash then
                perform pgsaas.raise_key_conflict(p_idempotency_key);
            end if;
            success := true;
            replayed := true;
            new_balance := v_hold.balance_after;
            available := pgsaas.available(pgsaas.project_account(v_b));
            hold_id := v_hold.hold_id;
            expires_at := v_hold.expires_at;
            return next;
            return;
        end if;
    end if;
    v_is_head := v_b.head_left - p_amount > v_b.head_floor and pgsaas.is_settled(v_b);
    if v_is_head then
        v_b.last_at := greatest(pgsaas.now(), v_b.last_at);
        v_b.head_left := v_b.head_left - p_amount;
        v_parts := jsonb_build_array(jsonb_build_array(v_b.head_grant_id, trim_scale(p_amount)));
    else
        v_b := pgsaas.settle_account(v_b);
    end if;
    if v_b.is_frozen then
        error_code := 'ACCOUNT_FROZEN';
        error_message := 'the account is frozen';
    elsif pgsaas.available(v_b) < p_amount and not pgsaas.is_shadow() then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s needed, %s available', trim_scale(p_amount),
            trim_scale(pgsaas.available(v_b)));
    else
        success := true;
        if not v_is_head then
            v_burned := pgsaas.burn(v_b, array[p_amount]);
            v_b := v_burned.p_b;
            v_parts := v_burned.p_allocations[1];
        end if;
        v_b.held := v_b.held + p_amount;
        v_b.hold_count := v_b.hold_count + 1;
        hold_id := v_b.hold_count;
        expires_at := v_b.last_at + v_ttl;
        insert into pgsaas.credit_holds (account_id, hold_id, created_at, expires_at, amount,
            balance_after,
            allocations, job_id, agent_id, description, idempotency_key, request_hash, metadata)
        values (p_account_id, v_b.hold_count, v_b.last_at, v_b.last_at + v_ttl, p_amount,
            v_b.balance,
            v_parts, p_job_id, p_agent_id, p_description, p_idempotency_key,
            case when p_idempotency_key is not null then v_hash end, nullif(p_metadata, '{}'));
    end if;
    if v_is_head then
        v_b.next_change_at := least(v_b.next_change_at, expires_at);
        perform pgsaas.store_head(v_b);
    else
        perform pgsaas.store_balance(v_b);
    end if;
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.hold_credits(uuid, numeric, interval, uuid, text, text, text, jsonb) is
    'Reserves credits for running work for p_ttl (above 0, at most 24 hours); capture_hold charges '
    'them, release_hold or the passing of time gives them back. Refused as a whole '
    '(INSUFFICIENT_CREDITS) if less is available. ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN. With a key it '
    'has one effect, ever. 22023 for wrong arguments.';

create or replace function pgsaas.extend_hold(
    p_account_id uuid, p_hold_id bigint, p_ttl interval default '15 minutes')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, expires_at timestamptz)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hold pgsaas.credit_holds;
    v_ttl interval := pgsaas.check_ttl(p_ttl);
begin
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_b := pgsaas.settle_account(v_b);
    select * into v_hold from pgsaas.credit_holds h where h.account_id = p_account_id
        and h.hold_id = p_hold_id;
    if not found then
        error_code := 'HOLD_NOT_FOUND';
        error_message := 'no such hold';
    elsif v_hold.state <> 'open' then
        error_code := 'HOLD_CLOSED';
        error_message := 'the hold is ' || v_hold.state;
    else
        success := true;
        expires_at := greatest(v_hold.expires_at, v_b.last_at + v_ttl);
        update pgsaas.credit_holds h set expires_at = greatest(h.expires_at, v_b.last_at + v_ttl)
         where h.account_id = p_account_id and h.hold_id = p_hold_id;
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.extend_hold(uuid, bigint, interval) is
    'The heartbeat of running work: the hold lasts at least p_ttl from now; it never gets shorter. '
    'ACCOUNT_NOT_FOUND, HOLD_NOT_FOUND, HOLD_CLOSED. 22023 for a wrong ttl.';

-- Splits allocations at p_amount, in order: what is taken, and what is left over.
create or replace function pgsaas.split_allocations(
    p_allocations jsonb, p_amount numeric, out p_taken jsonb, out p_rest jsonb)
language sql immutable parallel safe
as $$
    select coalesce(jsonb_agg(jsonb_build_array(y.grant_id, y.taken) order by y.n)
        filter (where y.taken > 0), '[]'),
           coalesce(jsonb_agg(jsonb_build_array(y.grant_id, y.amount - y.taken) order by y.n)
               filter (where y.amount > y.taken), '[]')
      from (select x.n, (x.part ->> 0)::bigint as grant_id, (x.part ->> 1)::numeric as amount,
                   greatest(0, least((x.part ->> 1)::numeric,
                       p_amount - coalesce(sum((x.part ->> 1)::numeric)
                       over (order by x.n rows between unbounded preceding and 1 preceding),
                           0))) as taken
              from jsonb_array_elements(p_allocations) with ordinality x (part, n)) y
$$;
comment on function pgsaas.split_allocations(jsonb, numeric) is
    'Cuts allocations [[grant_id, amount], …] in two: the first p_amount credits, and the rest.';

create or replace function pgsaas.check_shortfall(p_shortfall text) returns void
language plpgsql immutable parallel safe
as $$
begin
    if p_shortfall is null or p_shortfall not in ('refuse', 'partial', 'debt') then
        raise exception 'shortfall must be refuse, partial or debt' using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.check_shortfall(text) is 'Raises 22023 for what is none of the three.';

-- An account with a head owes nothing, and nothing of a head is unrecovered: what returns to it is
-- free. verify_ledger() proves both.
create or replace function pgsaas.ends_lightly(
    p_b pgsaas.account_balances, p_hold pgsaas.credit_holds, p_amount numeric)
returns boolean
language plpgsql stable
as $$
begin
    return coalesce(p_hold.state = 'open' and pgsaas.is_settled(p_b)
        and (p_amount is null or p_amount = p_hold.amount
            or p_amount < p_hold.amount and jsonb_array_length(p_hold.allocations) = 1
                and (p_hold.allocations -> 0 ->> 0)::bigint = p_b.head_grant_id), false);
end $$;
comment on function pgsaas.ends_lightly(pgsaas.account_balances, pgsaas.credit_holds, numeric) is
    'Whether a hold of a locked account can end with a capture of p_amount (null: all of it; 0: '
    'released) without settling: it is open, nothing is due, and what is left returns to the head.';

create or replace function pgsaas.capture_hold(
    p_account_id uuid, p_hold_id bigint, p_amount numeric default null,
        p_shortfall text default 'refuse',
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, captured numeric)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hold pgsaas.credit_holds;
    v_row pgsaas.credit_transactions;
    v_hash bytea;
    v_is_light boolean;
    v_excess numeric;
    v_split record;
    v_burned record;
begin
    if p_amount is not null then
        p_amount := pgsaas.check_amount(p_amount);
    end if;
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
    if p_shortfall = 'debt' and not pgsaas.acts_as_system() then
        raise exception 'only the system puts an account into debt' using errcode = 'PT403';
    end if;
    v_hash := pgsaas.request_hash(p_hold_id::text, trim_scale(p_amount)::text, p_shortfall);
    select r.p_found, r.p_seq, r.p_new_balance, -r.p_amount into replayed, seq, new_balance,
        captured
      from pgsaas.find_replay(v_b, 'c', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    select * into v_hold from pgsaas.credit_holds h where h.account_id = p_account_id
        and h.hold_id = p_hold_id;
    v_is_light := pgsaas.ends_lightly(v_b, v_hold, p_amount);
    if v_is_light then
        v_b.last_at := greatest(pgsaas.now(), v_b.last_at);
    else
        v_b := pgsaas.settle_account(v_b);
        select * into v_hold from pgsaas.credit_holds h where h.account_id = p_account_id
            and h.hold_id = p_hold_id;
    end if;
    v_excess := greatest(0, p_amount - v_hold.amount);
    if v_hold.hold_id is null then
        error_code := 'HOLD_NOT_FOUND';
        error_message := 'no such hold';
    elsif v_hold.state <> 'open' then
        error_code := 'HOLD_CLOSED';
        error_message := 'the hold is ' || v_hold.state;
    elsif v_excess > 0 and v_b.is_frozen and p_shortfall = 'refuse' then
        error_code := 'ACCOUNT_FROZEN';
        error_message := 'the account is frozen: no more than was held can be captured';
    elsif v_excess > pgsaas.available(v_b) and p_shortfall = 'refuse'
          and not pgsaas.is_shadow() then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s needed beyond the hold, %s available',
            trim_scale(v_excess),
            trim_scale(pgsaas.available(v_b)));
    else
        success := true;
        if p_shortfall = 'partial' then
            v_excess := case when v_b.is_frozen then 0 when pgsaas.is_shadow() then v_excess
                else least(v_excess, pgsaas.available(v_b)) end;
        end if;
        captured := least(coalesce(p_amount, v_hold.amount), v_hold.amount) + v_excess;
        update pgsaas.credit_holds h set state = 'captured', closed_at = v_b.last_at
         where h.account_id = p_account_id and h.hold_id = p_hold_id;
        v_b.held := v_b.held - v_hold.amount;
        v_split := pgsaas.split_allocations(v_hold.allocations, captured);
        if v_excess > 0 then
            select * into v_burned from pgsaas.burn(v_b, array[v_excess]);
            v_b := v_burned.p_b;
            v_split.p_taken := v_split.p_taken || v_burned.p_allocations[1];
        end if;
        v_row := pgsaas.allocated(pgsaas.new_row('capture', -captured, v_b.last_at, null,
            p_hold_id), v_split.p_taken);
        v_row.job_id := v_hold.job_id;
        v_row.agent_id := v_hold.agent_id;
        v_row.description := v_hold.description;
        v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'c', v_hash, p_metadata);
        seq := v_b.seq;
        new_balance := v_b.balance;
        if v_is_light then
            v_b.head_left := v_b.head_left + v_hold.amount - captured;
        elsif v_split.p_rest <> '[]' then
            v_b := pgsaas.settle_account(v_b, v_split.p_rest, p_hold_id);
        end if;
    end if;
    if v_is_light then
        perform pgsaas.store_head(v_b);
    else
        perform pgsaas.store_balance(v_b);
    end if;
    new_balance := coalesce(new_balance, v_b.balance);
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.capture_hold(uuid, bigint, numeric, text, text, jsonb) is
    'Charges a hold and closes it. Less than was held (null: all of it): the rest returns to the '
    'grants it came from, and expires if they have. More: the excess is taken if available, else '
    'p_shortfall decides: refuse (INSUFFICIENT_CREDITS, the hold stays open), partial (what is '
    'available), debt (the rest is owed). Of a frozen account no more than was held is taken '
    '(ACCOUNT_FROZEN for refuse), but for debt. captured is what was charged. ACCOUNT_NOT_FOUND, '
    'HOLD_NOT_FOUND, HOLD_CLOSED. With a key it has one effect, ever. 22023 for wrong arguments.';

create or replace function pgsaas.release_hold(p_account_id uuid, p_hold_id bigint)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_hold pgsaas.credit_holds;
    v_is_light boolean;
begin
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    select * into v_hold from pgsaas.credit_holds h where h.account_id = p_account_id
        and h.hold_id = p_hold_id;
    v_is_light := pgsaas.ends_lightly(v_b, v_hold, 0);
    if v_is_light then
        v_b.last_at := greatest(pgsaas.now(), v_b.last_at);
    else
        v_b := pgsaas.settle_account(v_b);
        select * into v_hold from pgsaas.credit_holds h where h.account_id = p_account_id
            and h.hold_id = p_hold_id;
    end if;
    if v_hold.hold_id is null then
        error_code := 'HOLD_NOT_FOUND';
        error_message := 'no such hold';
    elsif v_hold.state <> 'open' then
        error_code := 'HOLD_CLOSED';
        error_message := 'the hold is ' || v_hold.state;
    else
        success := true;
        update pgsaas.credit_holds h set state = 'released', closed_at = v_b.last_at
         where h.account_id = p_account_id and h.hold_id = p_hold_id;
        v_b.held := v_b.held - v_hold.amount;
        if v_is_light then
            v_b.head_left := v_b.head_left + v_hold.amount;
        else
            v_b := pgsaas.settle_account(v_b, v_hold.allocations, p_hold_id);
        end if;
    end if;
    if v_is_light then
        perform pgsaas.store_head(v_b);
    else
        perform pgsaas.store_balance(v_b);
    end if;
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.release_hold(uuid, bigint) is
    'Closes a hold without a charge: what it held returns to the grants it came from, and expires '
    'if they have. ACCOUNT_NOT_FOUND, HOLD_NOT_FOUND, HOLD_CLOSED (a second release, too).';
