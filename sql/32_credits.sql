-- Credits come and terms change: add, adjust, and what an account may do with its credits.
--
-- Every function here locks the account, looks for its key, settles, takes effect and stores the
-- balance, in that order (30_ledger). Any change of limits, threshold or burn order goes the same
-- way, so that the cached head and next_change_at never outlive what they were computed from.

create or replace function pgsaas.add_credits(
    p_account_id uuid, p_amount numeric, p_description text default null,
        p_source text default 'bonus',
    p_expires_at timestamptz default null, p_effective_at timestamptz default null,
    p_priority integer default null, p_idempotency_key text default null,
        p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, grant_id bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_row pgsaas.credit_transactions;
    v_hash bytea;
    v_pending_until timestamptz;
begin
    p_amount := pgsaas.check_amount(p_amount);
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description);
    if pgsaas.source_rank(p_source) is null then
        raise exception 'no source "%"', p_source using errcode = '22023',
            hint = 'Sources are allowance, rollover, trial, purchase, bonus, referral, refund, '
                   'transfer.';
    elsif p_priority not between -32768 and 32767 then
        raise exception 'priority must be between -32768 and 32767' using errcode = '22023';
    elsif p_expires_at <= p_effective_at or p_effective_at = 'infinity' then
        raise exception 'credits must take effect before they expire' using errcode = '22023';
    end if;
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'system');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(trim_scale(p_amount)::text, p_source,
        extract(epoch from p_expires_at)::text,
        extract(epoch from p_effective_at)::text, p_priority::text);
    select r.p_found, r.p_seq, r.p_new_balance, r.p_grant_id into replayed, seq, new_balance,
        grant_id
      from pgsaas.find_replay(v_b, 'a', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    v_b := pgsaas.settle_account(v_b);
    if p_expires_at <= v_b.last_at then
        raise exception 'credits that have already expired' using errcode = '22023';
    end if;
    if p_effective_at > v_b.last_at then
        v_pending_until := p_effective_at;
    end if;
    v_b := pgsaas.open_grant(v_b, p_source, p_amount, coalesce(p_expires_at, 'infinity'),
        coalesce(p_priority, 0),
        v_pending_until);
    -- A pending grant is not yet in the balance: its row of 0 carries the key, a second row carries
    -- the credits when they take effect.
    v_row := pgsaas.new_row('grant', case when v_pending_until is null then p_amount else 0 end,
        v_b.last_at,
        v_b.grant_count);
    v_row.description := p_description;
    v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'a', v_hash, p_metadata);
    perform pgsaas.store_balance(v_b);
    success := true;
    seq := v_b.seq;
    grant_id := v_b.grant_count;
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.add_credits(uuid, numeric, text, text, timestamptz, timestamptz,
    integer, text, jsonb) is
    'Grants credits: from p_source (allowance, rollover, trial, purchase, bonus, referral, refund, '
    'transfer), until p_expires_at (null: for ever), from p_effective_at on (null or past: now; '
    'later: a row of 0 now, the amount then), burning before others of a higher p_priority (0 if '
    'null). What is owed is paid first. ACCOUNT_NOT_FOUND. With a key it has one effect, ever. '
    '22023 for wrong arguments, credits that have already expired among them.';

create or replace function pgsaas.adjust_credits(
    p_account_id uuid, p_amount numeric, p_reason text, p_idempotency_key text default null,
    p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_row pgsaas.credit_transactions;
    v_hash bytea;
    v_burned record;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_reason(p_reason);
    p_amount := sign(p_amount) * pgsaas.check_amount(abs(p_amount));
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_reason);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_account(p_account_id);
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(trim_scale(p_amount)::text);
    select r.p_found, r.p_seq, r.p_new_balance into replayed, seq, new_balance
      from pgsaas.find_replay(v_b, 'j', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    v_b := pgsaas.settle_account(v_b);
    if -p_amount > v_b.balance - v_b.held + v_b.owed then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s to be taken, %s free',
            trim_scale(-p_amount),
            trim_scale(v_b.balance - v_b.held + v_b.owed));
    else
        success := true;
        v_row := pgsaas.new_row('adjustment', p_amount, v_b.last_at);
        if p_amount > 0 then
            v_b := pgsaas.open_grant(v_b, 'bonus', p_amount, 'infinity');
            v_row.grant_id := v_b.grant_count;
        else
            select * into v_burned from pgsaas.burn(v_b, array[-p_amount]);
            v_b := v_burned.p_b;
            v_row := pgsaas.allocated(v_row, v_burned.p_allocations[1]);
        end if;
        v_row.description := p_reason;
        v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'j', v_hash, p_metadata);
        seq := v_b.seq;
        perform pgsaas.audit('credits.adjusted', p_account_id,
            jsonb_build_object('seq', seq, 'amount', p_amount, 'reason', p_reason));
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.adjust_credits(uuid, numeric, text, text, jsonb) is
    'Corrects a balance by hand, with a reason: p_amount above 0 is a bonus without expiry, below '
    '0 burns free credits and is refused (INSUFFICIENT_CREDITS) beyond them. Admins only; audited. '
    'ACCOUNT_NOT_FOUND. 22023 for 0 or wrong arguments.';

-- The common half of the three below: change one thing of a settled account.
create or replace function pgsaas.set_terms(
    p_account_id uuid, p_act text, p_action text, p_changes jsonb, p_reason text default null)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
begin
    if p_act = 'admin' then    -- the caller has been through check_administers()
        v_b := pgsaas.lock_account(p_account_id);
    else
        v_b := pgsaas.lock_for(p_account_id, p_act);
    end if;
    success := v_b.account_id is not null;
    replayed := false;
    if success then
        v_b := pgsaas.settle_account(v_b);
        if p_act <> 'manage' then
            perform pgsaas.audit(p_action, p_account_id, p_changes || jsonb_build_object('reason',
                p_reason));
        end if;
        v_b := jsonb_populate_record(v_b, p_changes);
        perform pgsaas.store_balance(v_b);
        new_balance := v_b.balance;
        available := pgsaas.available(v_b);
    else
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
    end if;
    return next;
end $$;
comment on function pgsaas.set_terms(uuid, text, text, jsonb, text) is
    'Changes terms of an account (columns of account_balances by name) under its lock, settled; '
    'audited unless a member may.';

create or replace function pgsaas.set_overdraft_limit(p_account_id uuid, p_limit numeric,
    p_reason text)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_reason(p_reason);
    if p_limit is distinct from 0 then
        p_limit := pgsaas.check_amount(p_limit, 'overdraft limit');
    end if;
    return query select * from pgsaas.set_terms(p_account_id, 'admin', 'overdraft_limit.changed',
        jsonb_build_object('overdraft_limit', p_limit), p_reason);
end $$;
comment on function pgsaas.set_overdraft_limit(uuid, numeric, text) is
    'How far below zero the account may be spent (0: not at all). Admins only; audited. '
    'ACCOUNT_NOT_FOUND. 22023 for wrong arguments.';

create or replace function pgsaas.set_burn_order(p_account_id uuid, p_burn_order text)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
begin
    perform pgsaas.check_administers();
    if p_burn_order is null or p_burn_order not in ('purchased_first', 'expiring_first') then
        raise exception 'burn order must be purchased_first or expiring_first' using errcode
            = '22023';
    end if;
    return query select * from pgsaas.set_terms(p_account_id, 'admin', 'burn_order.changed',
        jsonb_build_object('burn_order', p_burn_order));
end $$;
comment on function pgsaas.set_burn_order(uuid, text) is
    'Which credits burn first: purchased_first (purchase, bonus, refund, trial, rollover, '
    'allowance; within each the earliest to expire) or expiring_first. Audited. ACCOUNT_NOT_FOUND. '
    '22023 for another order.';

create or replace function pgsaas.set_low_balance_at(p_account_id uuid, p_low_balance_at numeric)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
begin
    if p_low_balance_at <> 0 then
        p_low_balance_at := pgsaas.check_amount(p_low_balance_at, 'threshold');
    end if;
    return query select * from pgsaas.set_terms(p_account_id,
        case when pgsaas.may_administer() then 'admin' else 'manage' end, 'low_balance_at.changed',
        jsonb_build_object('low_balance_at', p_low_balance_at));
end $$;
comment on function pgsaas.set_low_balance_at(uuid, numeric) is
    'Below which balance (what is held not counted) the outbox is told "balance.low", once per '
    'crossing; null for never. ACCOUNT_NOT_FOUND. 22023 for a wrong threshold.';
