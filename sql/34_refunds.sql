-- Credits go back: refunds give a charge back to the account, revocations take a grant back from
-- it.
--
-- A refund names a row; it gives back at most what that row took, the part that burned last first,
-- to the grants the credits came from (28_returns says what becomes of each part). A revocation
-- names a grant; it takes what is free in it, then what is free in grants that it went on in (by
-- transfer, rollover or a late refund), then, for what has been spent, other free credits of
-- whoever spent it, and beyond those the account owes, or the rest is recorded as unrecovered
-- (settings.clawback). Neither looks at whether the account is frozen. Lock rule: the account, for
-- a revocation with all accounts that hold a part of the grant, in the order of their ids.

create or replace function pgsaas.refund_credits(
    p_account_id uuid, p_seq bigint, p_amount numeric default null, p_reason text default null,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_taken pgsaas.credit_transactions;
    v_row pgsaas.credit_transactions;
    v_hold pgsaas.credit_holds;
    v_hash bytea;
    v_before numeric;
    v_amount numeric;
    v_parts jsonb;
    v_split record;
begin
    if p_amount is not null then
        p_amount := pgsaas.check_amount(p_amount);
    end if;
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_reason);
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'system');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(p_seq::text, trim_scale(p_amount)::text);
    select r.p_found, r.p_seq, r.p_new_balance into replayed, seq, new_balance
      from pgsaas.find_replay(v_b, 'r', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    v_b := pgsaas.settle_account(v_b);
    select * into v_taken from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.seq = p_seq and t.transaction_type in ('deduction',
         'capture');
    select coalesce(sum(t.amount), 0) into v_before from pgsaas.credit_transactions t
     where t.account_id = p_account_id and t.ref_seq = p_seq and t.transaction_type = 'refund';
    v_amount := coalesce(p_amount, -v_taken.amount - v_before);
    if v_taken.seq is null then
        error_code := 'NOT_REFUNDABLE';
        error_message := case when p_seq between 1 and v_b.archived_seq
            then format('row %s is archived', p_seq)
            when p_seq between 1 and v_b.seq then 'only a deduction or a capture can be refunded'
            else format('there is no row %s', p_seq) end;
    elsif v_amount > -v_taken.amount - v_before or v_amount = 0 then
        error_code := 'REFUND_EXCEEDS';
        error_message := format('at most %s can be refunded',
            trim_scale(-v_taken.amount - v_before));
    else
        success := true;
        v_row := pgsaas.new_row('refund', v_amount, v_b.last_at);
        v_row.ref_seq := p_seq;
        v_row.job_id := v_taken.job_id;
        v_row.agent_id := v_taken.agent_id;
        v_row.description := p_reason;
        -- the parts in reverse, without what earlier refunds gave back, as far as the amount goes
        select jsonb_agg(x.part order by x.n desc) into v_parts
          from jsonb_array_elements(pgsaas.row_allocations(v_taken)) with ordinality x (part, n);
        select s.p_rest into v_parts from pgsaas.split_allocations(v_parts, v_before) s;
        select s.p_taken into v_parts from pgsaas.split_allocations(v_parts, v_amount) s;
        v_row.allocations := v_parts;
        v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'r', v_hash, p_metadata);
        seq := v_b.seq;
        new_balance := v_b.balance;
        -- what was held was taken when it was held; what a capture took beyond that burned last
        select * into v_hold from pgsaas.credit_holds h
         where h.account_id = p_account_id and h.hold_id = v_taken.hold_id;
        select * into v_split from pgsaas.split_allocations(v_parts,
            greatest(0, -v_taken.amount - coalesce(v_hold.amount, 0) - v_before));
        v_b := pgsaas.settle_account(v_b, nullif(v_split.p_taken, '[]'), null,
            v_taken.created_at);
        v_b := pgsaas.settle_account(v_b, nullif(v_split.p_rest, '[]'), null,
            v_hold.created_at);
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := coalesce(new_balance, v_b.balance);
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.refund_credits(uuid, bigint, numeric, text, text, jsonb) is
    'Gives back what the deduction or capture p_seq took, or p_amount of it: never more than was '
    'taken and not yet given back (REFUND_EXCEEDS), the part that burned last first, to the grants '
    'it came from. A part whose grant has expired lives for the time it had left when it was '
    'taken, at most until the next reset, and does not roll over. NOT_REFUNDABLE for other rows, '
    'ACCOUNT_NOT_FOUND. With a key it has one effect, ever. 22023 for wrong arguments.';

-- The parts of a revocation that concern one locked, settled account: [{account_id, grant_id, own,
-- gone}, ...]. First everything that is free in the grants themselves, then, part by part, what is
-- gone from them.
create or replace function pgsaas.revoke_parts(
    inout p_b pgsaas.account_balances, p_parts jsonb, p_row pgsaas.credit_transactions, p_key text,
    p_hash bytea, p_metadata jsonb, out p_unrecovered numeric, out p_seq bigint,
        out p_new_balance numeric)
language plpgsql volatile
as $$
declare
    v_owes boolean := (select s.clawback = 'owed' from pgsaas.settings s);
    v_part record;
    v_burned record;
    v_taken numeric;
begin
    p_unrecovered := 0;
    update pgsaas.credit_grants g
       set remaining = g.remaining - x.own, is_open = g.remaining > x.own,
           expired = g.expired - x.expired, revoked = g.revoked + x.own + x.expired + x.gone
      from jsonb_to_recordset(p_parts)
           x (account_id uuid, grant_id bigint, own numeric, expired numeric, gone numeric)
     where x.account_id = p_b.account_id and g.account_id = x.account_id
       and g.grant_id = x.grant_id;
    for v_part in
        select x.grant_id, x.own, x.gone,
               row_number() over (order by x.ordinality desc) = 1 as is_last
          from rows from (jsonb_to_recordset(p_parts)
                   as (account_id uuid, grant_id bigint, own numeric,
                       gone numeric)) with ordinality x
         where x.account_id = p_b.account_id
         order by x.ordinality
    loop
        v_taken := v_part.gone;
        if v_taken > 0 and not v_owes then
            select least(v_taken, coalesce(sum(g.remaining), 0)) into v_taken
                from pgsaas.credit_grants g
             where g.account_id = p_b.account_id and g.is_open;
            p_unrecovered := p_unrecovered + v_part.gone - v_taken;
            update pgsaas.credit_grants g set unrecovered = g.unrecovered + v_part.gone - v_taken
             where g.account_id = p_b.account_id and g.grant_id = v_part.grant_id;
        end if;
        p_row.allocations := null;
        if v_taken > 0 then
            select * into v_burned from pgsaas.burn(p_b, array[v_taken]);
            p_b := v_burned.p_b;
            p_row.allocations := v_burned.p_allocations[1];
        end if;
        p_row.grant_id := v_part.grant_id;
        p_row.amount := -(v_part.own + v_taken);
        p_row.created_at := p_b.last_at;
        p_b := pgsaas.append_row(p_b, p_row, case when v_part.is_last then p_key end, 'v', p_hash,
            p_metadata);
    end loop;
    p_seq := p_b.seq;
    p_new_balance := p_b.balance;
end $$;
comment on function pgsaas.revoke_parts(pgsaas.account_balances, jsonb, pgsaas.credit_transactions,
    text, bytea, jsonb) is
    'Revokes parts of grants of a locked, settled account: own from their free credits, gone from '
    'others, then owed or unrecovered. One row per part; the last carries the key.';

create or replace function pgsaas.revoke_grant(
    p_account_id uuid, p_grant_id bigint, p_amount numeric default null, p_reason text default null,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, unrecovered numeric)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_grant pgsaas.credit_grants;
    v_row pgsaas.credit_transactions;
    v_hash bytea;
    v_ids uuid[];
    v_id uuid;
    v_left numeric;
    v_amount numeric;
    v_parts jsonb;
    v_done record;
begin
    if p_amount is not null then
        p_amount := pgsaas.check_amount(p_amount);
    end if;
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_reason);
    success := false;
    replayed := false;
    if not pgsaas.may(p_account_id, 'system') then
        p_account_id := null;
    end if;
    -- whoever holds a part of the grant by transfer is locked too, all in the one order
    v_ids := array(select distinct g.account_id from pgsaas.credit_grants g
                    where g.root_account_id = p_account_id and g.root_grant_id = p_grant_id);
    perform pgsaas.lock_in_order(v_ids || p_account_id);
    v_b := pgsaas.lock_account(p_account_id);
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    if exists (select from pgsaas.credit_grants g
                where g.root_account_id = p_account_id and g.root_grant_id = p_grant_id
                  and g.account_id <> all (v_ids || p_account_id)) then
        raise exception 'credits of this grant were transferred meanwhile; run it again'
            using errcode = '40001';
    end if;
    v_hash := pgsaas.request_hash(p_grant_id::text, trim_scale(p_amount)::text);
    select r.p_found, r.p_seq, r.p_new_balance into replayed, seq, new_balance
      from pgsaas.find_replay(v_b, 'v', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    foreach v_id in array array_remove(v_ids, p_account_id) loop
        perform pgsaas.store_balance(pgsaas.settle_account(pgsaas.lock_account(v_id)));
    end loop;
    v_b := pgsaas.settle_account(v_b);
    select * into v_grant from pgsaas.credit_grants g
     where g.account_id = p_account_id and g.grant_id = p_grant_id;
    select coalesce(sum(g.amount - g.revoked - g.moved), 0) into v_left from pgsaas.credit_grants g
     where (g.account_id = p_account_id and g.grant_id = p_grant_id)
        or (g.root_account_id = p_account_id and g.root_grant_id = p_grant_id);
    v_amount := coalesce(p_amount, v_left);
    v_row := pgsaas.new_row('revoke', 0, v_b.last_at, p_grant_id);
    v_row.description := p_reason;
    if v_grant.root_grant_id is not null then
        error_code := 'NOT_REFUNDABLE';
        error_message := format('the grant is part of grant %s%s: revoke that one',
            v_grant.root_grant_id, case when v_grant.root_account_id <> p_account_id
                then ' of account ' || v_grant.root_account_id else '' end);
    elsif v_amount > v_left or v_left = 0 then
        error_code := 'NOT_REFUNDABLE';
        error_message := case when v_grant.grant_id is null then 'no such grant'
            else format('at most %s of the grant can be revoked', trim_scale(v_left)) end;
    elsif v_grant.is_pending then
        success := true;
        unrecovered := 0;
        update pgsaas.credit_grants g
           set revoked = g.revoked + v_amount, remaining = g.remaining - v_amount,
               is_pending = g.remaining > v_amount
         where g.account_id = p_account_id and g.grant_id = p_grant_id;
        v_b := pgsaas.append_row(v_b, v_row, p_idempotency_key, 'v', v_hash, p_metadata);
        seq := v_b.seq;
        new_balance := v_b.balance;
    else
        success := true;
        with parts as (
            select g.account_id, g.grant_id,
                   g.account_id = p_account_id and g.grant_id = p_grant_id as is_named,
                   least(g.remaining, g.amount - g.revoked - g.moved - g.expired) as free,
                   g.expired,
                   greatest(0, g.amount - g.revoked - g.moved - g.expired - g.remaining) as spent
              from pgsaas.credit_grants g
             where (g.account_id = p_account_id and g.grant_id = p_grant_id)
                or (g.root_account_id = p_account_id and g.root_grant_id = p_grant_id)),
        shares as (    -- what is free, then what has expired and harms nobody, then what was spent
            select p.account_id, p.grant_id, p.is_named,
                   greatest(0, least(p.free,
                       v_amount - coalesce(sum(p.free) over before, 0))) as own,
                   greatest(0, least(p.expired, v_amount - sum(p.free) over ()
                       - coalesce(sum(p.expired) over before, 0))) as expired,
                   greatest(0, least(p.spent, v_amount - sum(p.free + p.expired) over ()
                       - coalesce(sum(p.spent) over before, 0))) as gone
              from parts p
            window before as (order by p.is_named desc, p.account_id, p.grant_id
                              rows between unbounded preceding and 1 preceding))
        select jsonb_agg(jsonb_build_object('account_id', s.account_id, 'grant_id', s.grant_id,
                   'own', s.own, 'expired', s.expired, 'gone', s.gone)
                   order by s.is_named desc, s.account_id, s.grant_id)
          into v_parts
          from shares s where s.is_named or s.own + s.expired + s.gone > 0;
        select * into v_done from pgsaas.revoke_parts(v_b, v_parts, v_row, p_idempotency_key,
            v_hash, p_metadata);
        v_b := v_done.p_b;
        seq := v_done.p_seq;
        new_balance := v_done.p_new_balance;
        unrecovered := v_done.p_unrecovered;
        v_row.description := null;    -- what is said of one account is not for the others to read
        foreach v_id in array array_remove(v_ids, p_account_id) loop
            select * into v_done from pgsaas.revoke_parts(
                pgsaas.settle_account(pgsaas.lock_account(v_id)), v_parts, v_row, null, null, null);
            perform pgsaas.store_balance(v_done.p_b);
            unrecovered := unrecovered + v_done.p_unrecovered;
        end loop;
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := coalesce(new_balance, v_b.balance);
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.revoke_grant(uuid, bigint, numeric, text, text, jsonb) is
    'Takes a grant back (a refund, a dispute), or p_amount of it, wherever its credits went by '
    'transfer, rollover or a late refund: first what is free in it, then for what is spent other '
    'free credits of those who spent it, then they owe, or it is recorded as unrecovered (setting '
    'clawback; null on a replay). What rolled over more than twelve times is left alone. '
    'NOT_REFUNDABLE if there is no such grant, if it is itself a part of another (revoke that '
    'one) or less of it is left, '
    'ACCOUNT_NOT_FOUND. With a key it has one effect, ever. 22023 for wrong arguments; 40001 if '
    'its credits were transferred at the same moment.';
