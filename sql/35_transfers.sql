-- Transfers: purchased and bonus credits move between accounts of one organization.
--
-- Each part keeps its source, priority, expiry and the time it was acquired, and remembers the
-- grant it was first part of, so that a refund or dispute of the purchase finds it wherever it
-- went. Purchased credits move only once they are 14 days old (settings.transfer_min_age): a stolen
-- card must not buy what is spent elsewhere before the bank knows. Both accounts are locked in the
-- order of their ids.

create or replace function pgsaas.share_organization(p_one uuid, p_other uuid) returns boolean
language sql stable
as $$
    with belonging as (
        select a.account_id, a.account_id as organization_id from pgsaas.accounts a
         where a.account_id in (p_one, p_other) and a.kind = 'organization'
        union
        select a.account_id, m.account_id
          from pgsaas.accounts a
          left join pgsaas.account_external_ids x
            on x.account_id = a.account_id and x.realm = (select s.identity_realm
                from pgsaas.settings s)
          join pgsaas.account_members m on m.user_id = coalesce(x.external_id, a.account_id::text)
          join pgsaas.accounts o on o.account_id = m.account_id and o.kind = 'organization'
         where a.account_id in (p_one, p_other) and a.kind = 'user'
           and (x.account_id is not null
                or not exists (select from pgsaas.account_external_ids y
                    where y.account_id = a.account_id)))
    select exists (select from belonging b join belonging c on c.organization_id = b.organization_id
                    where b.account_id = p_one and c.account_id = p_other)
$$;
comment on function pgsaas.share_organization(uuid, uuid) is
    'Whether two accounts are the same organization, or members of one, or one of each.';

create or replace function pgsaas.transfer_credits(
    p_from uuid, p_to uuid, p_amount numeric, p_description text default null,
    p_idempotency_key text default null, p_metadata jsonb default '{}')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_from pgsaas.account_balances;
    v_to pgsaas.account_balances;
    v_settings pgsaas.settings;
    v_shares boolean;
    v_hash bytea;
    v_bought_before timestamptz;
    v_movable numeric;
    v_todo numeric := p_amount;
    v_take numeric;
    v_pays numeric;
    v_grant pgsaas.credit_grants;
    v_child pgsaas.credit_grants;
    v_out jsonb := jsonb_build_array();
    v_in jsonb := jsonb_build_array();
    v_row pgsaas.credit_transactions;
begin
    p_amount := pgsaas.check_amount(p_amount);
    perform pgsaas.check_request(p_idempotency_key, p_metadata, p_description);
    if p_from = p_to then
        raise exception 'a transfer needs two accounts' using errcode = '22023';
    end if;
    success := false;
    replayed := false;
    select * into v_settings from pgsaas.settings;
    v_shares := v_settings.transfer_scope = 'any' or pgsaas.share_organization(p_from, p_to);
    -- a user moves credits between accounts they belong to, and learns nothing of others
    if not pgsaas.acts_as_system()
       and not (pgsaas.may(p_from, 'pay') and pgsaas.may(p_to, 'read')) then
        p_from := null;
        p_to := null;
    end if;
    perform pgsaas.lock_in_order(array[p_from, p_to]);
    v_from := pgsaas.lock_account(p_from);
    v_to := pgsaas.lock_account(p_to);
    if v_from.account_id is null or v_to.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_hash := pgsaas.request_hash(p_to::text, trim_scale(p_amount)::text);
    select r.p_found, r.p_seq, r.p_new_balance into replayed, seq, new_balance
      from pgsaas.find_replay(v_from, 't', p_idempotency_key, v_hash) r;
    if replayed then
        success := true;
        available := pgsaas.available(pgsaas.project_account(v_from));
        return next;
        return;
    end if;
    -- one time for both: what has expired for one must not arrive as free at the other
    v_from := pgsaas.settle_account(v_from, p_not_before => v_to.last_at);
    v_to := pgsaas.settle_account(v_to, p_not_before => v_from.last_at);
    v_bought_before := (v_from.last_at at time zone 'UTC' - v_settings.transfer_min_age)
        at time zone 'UTC';
    -- of what was revoked and came back by a refund nothing moves: nobody could follow it
    select coalesce(sum(least(g.remaining, g.amount - g.revoked - g.moved - g.expired)),
        0) into v_movable
      from pgsaas.open_grants(p_from, v_from.burn_order) g
     where g.source = 'bonus' or (g.source = 'purchase' and g.acquired_at <= v_bought_before);
    if v_from.is_frozen or v_to.is_frozen then
        error_code := 'ACCOUNT_FROZEN';
        error_message := 'an account is frozen';
    elsif pgsaas.available(v_from) < p_amount then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s needed, %s available', trim_scale(p_amount),
            trim_scale(pgsaas.available(v_from)));
    elsif not v_shares then
        error_code := 'NOT_TRANSFERABLE';
        error_message := 'the accounts share no organization';
    elsif v_movable < p_amount then
        error_code := 'NOT_TRANSFERABLE';
        error_message := format('of purchased and bonus credits %s may move now',
            trim_scale(v_movable));
    else
        success := true;
        for v_grant in
            select * from pgsaas.open_grants(p_from, v_from.burn_order) g
             where g.source = 'bonus' or (g.source = 'purchase'
                 and g.acquired_at <= v_bought_before)
        loop
            exit when v_todo = 0;
            v_take := least(v_todo, v_grant.remaining,
                v_grant.amount - v_grant.revoked - v_grant.moved - v_grant.expired);
            continue when v_take = 0;
            v_todo := v_todo - v_take;
            update pgsaas.credit_grants g
               set remaining = g.remaining - v_take, is_open = g.remaining > v_take,
                   moved = g.moved + v_take
             where g.account_id = p_from and g.grant_id = v_grant.grant_id;
            v_pays := least(v_take, v_to.owed);
            v_to.owed := v_to.owed - v_pays;
            v_child := pgsaas.new_grant(v_to, v_grant.source, v_take, v_take - v_pays, v_to.last_at,
                v_grant.expires_at, v_grant.priority);
            v_child.acquired_at := v_grant.acquired_at;
            v_child.root_account_id := coalesce(v_grant.root_account_id, p_from);
            v_child.root_grant_id := coalesce(v_grant.root_grant_id, v_grant.grant_id);
            v_to.grant_count := v_child.grant_id;
            perform pgsaas.store_grant(v_child);
            v_out := v_out || jsonb_build_array(jsonb_build_array(v_grant.grant_id, v_take));
            v_in := v_in || jsonb_build_array(jsonb_build_array(v_child.grant_id, v_take));
        end loop;
        v_row := pgsaas.allocated(pgsaas.new_row('transfer_out', -p_amount, v_from.last_at), v_out);
        v_row.description := p_description;
        v_from := pgsaas.append_row(v_from, v_row, p_idempotency_key, 't', v_hash,
            coalesce(p_metadata, '{}') || jsonb_build_object('to_account_id', p_to));
        seq := v_from.seq;
        v_row := pgsaas.allocated(pgsaas.new_row('transfer_in', p_amount, v_to.last_at), v_in);
        v_row.description := p_description;
        v_to := pgsaas.append_row(v_to, v_row, p_metadata => coalesce(p_metadata, '{}')
            || jsonb_build_object('from_account_id', p_from, 'from_seq', seq));
    end if;
    perform pgsaas.store_balance(v_from);
    perform pgsaas.store_balance(v_to);
    new_balance := v_from.balance;
    available := pgsaas.available(v_from);
    return next;
end $$;
comment on function pgsaas.transfer_credits(uuid, uuid, numeric, text, text, jsonb) is
    'Moves free purchased and bonus credits, in burn order, each part with its source, priority, '
    'expiry and origin. Answers for p_from. NOT_TRANSFERABLE if the accounts share no organization '
    '(unless settings.transfer_scope is any) or too little may move (purchases not before '
    'settings.transfer_min_age); INSUFFICIENT_CREDITS, ACCOUNT_NOT_FOUND, ACCOUNT_FROZEN (either '
    'account). With a key it has one effect, ever. 22023 for wrong arguments or a transfer to '
    'oneself.';
