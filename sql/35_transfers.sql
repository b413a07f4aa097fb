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

-- Of what was revoked and came back by a refund nothing moves: nobody could follow it.
create or replace function pgsaas.movable_grants(
    p_account_id uuid, p_burn_order text, p_bought_before timestamptz)
returns table (moving pgsaas.credit_grants, movable numeric)
language sql stable
as $$
    select g, least(g.remaining, g.amount - g.revoked - g.moved - g.expired)
      from pgsaas.open_grants(p_account_id, p_burn_order) g
     where (g.source = 'bonus' or (g.source = 'purchase' and g.acquired_at <= p_bought_before))
       and g.amount > g.revoked + g.moved + g.expired
$$;
comment on function pgsaas.movable_grants(uuid, text, timestamptz) is
    'The open grants of a settled account that may be transferred, in burn order, and how much of '
    'each: bonuses, and purchases acquired by that time.';

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
    v_moved record;
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
    select coalesce(sum(m.movable), 0) into v_movable
      from pgsaas.movable_grants(p_from, v_from.burn_order, v_bought_before) m;
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
        with grants as (
            select m.moving as g, m.movable, row_number() over () as place
              from pgsaas.movable_grants(p_from, v_from.burn_order, v_bought_before) m),
        parts as (
            select x.g, row_number() over (order by x.place) as n,
                   least(x.movable, p_amount - x.before) as amount,
                   -- what the receiver owes is paid first
                   greatest(0, least(x.movable, p_amount - x.before, v_to.owed - x.before)) as pays
              from (select m.*, coalesce(sum(m.movable) over (order by m.place
                           rows between unbounded preceding and 1 preceding), 0) as before
                      from grants m) x
             where x.before < p_amount),
        taken as (
            update pgsaas.credit_grants g
               set remaining = g.remaining - p.amount, is_open = g.remaining > p.amount,
                   moved = g.moved + p.amount
              from parts p
             where g.account_id = p_from and g.grant_id = (p.g).grant_id),
        given as (
            insert into pgsaas.credit_grants (account_id, grant_id, effective_at, expires_at,
                acquired_at, root_account_id, root_grant_id, is_open, priority, source_rank,
                amount, remaining, source)
            select p_to, v_to.grant_count + p.n, v_to.last_at, (p.g).expires_at,
                   (p.g).acquired_at, coalesce((p.g).root_account_id, p_from),
                   coalesce((p.g).root_grant_id, (p.g).grant_id), p.amount > p.pays,
                   (p.g).priority, (p.g).source_rank, p.amount, p.amount - p.pays,
                   (p.g).source
              from parts p)
        select count(*) as n,
               jsonb_agg(jsonb_build_array(v_to.grant_count + p.n, p.pays) order by p.n)
                   filter (where p.pays > 0) as payments,
               jsonb_agg(jsonb_build_array((p.g).grant_id, trim_scale(p.amount)) order by p.n)
                   as taken,
               jsonb_agg(jsonb_build_array(v_to.grant_count + p.n, trim_scale(p.amount))
                   order by p.n) as given
          into v_moved from parts p;
        v_to.grant_count := v_to.grant_count + v_moved.n;
        if v_moved.payments is not null then
            v_to := pgsaas.pay_debts(v_to, v_moved.payments);
        end if;
        v_row := pgsaas.allocated(pgsaas.new_row('transfer_out', -p_amount, v_from.last_at),
            v_moved.taken);
        v_row.description := p_description;
        v_from := pgsaas.append_row(v_from, v_row, p_idempotency_key, 't', v_hash,
            coalesce(p_metadata, '{}') || jsonb_build_object('to_account_id', p_to));
        seq := v_from.seq;
        v_row := pgsaas.allocated(pgsaas.new_row('transfer_in', p_amount, v_to.last_at),
            v_moved.given);
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
