-- The life of an account: created, attached to a host's users, frozen, exported, erased.
--
-- Creating is idempotent by the account id or by the host's own id: two transactions that create
-- one account meet at the unique external id, and the later one gets the earlier one's account. An
-- erased person gets no second first allowance: a salted hash of the id and of the address is kept
-- for that, and nothing else.
--
-- Erasing nulls free text and keeps every figure: the ledger stays provable. It is for ever; the
-- account is frozen and without an allowance from then on.

create or replace function pgsaas.subject_hashes(p_realm text, p_external_id text,
    p_email text) returns bytea[]
language sql stable security definer set search_path = ''
as $$
    select array_agg(pg_catalog.sha256(i.salt || pg_catalog.convert_to(s.subject::text, 'UTF8')))
      from pgsaas.installation i,
           (values (jsonb_build_array('id', p_realm, p_external_id)), (jsonb_build_array('email',
               lower(trim(p_email)))))
           s (subject)
     where s.subject ->> -1 is not null
$$;
comment on function pgsaas.subject_hashes(text, text, text) is
    'Salted hashes by which a person is known again after being erased: of the host''s id and of '
    'the address.';

-- The default plan of an account that has no subscription; without an allowance for a person who
-- was erased before.
create or replace function pgsaas.give_default_plan(p_account_id uuid, p_is_barred boolean)
returns boolean
language plpgsql volatile
as $$
declare
    v_s pgsaas.subscriptions := pgsaas.newest_subscription(p_account_id);
    v_terms record;
begin
    v_s.account_id := p_account_id;
    v_s.period_anchor := null;
    v_s := pgsaas.default_subscription(v_s, pgsaas.now());
    if v_s.account_id is null then
        return false;
    end if;
    v_s.allowance := case when p_is_barred then 0 end;
    perform pgsaas.store_subscription(v_s);
    v_terms := pgsaas.plan_terms(v_s);
    perform pgsaas.start_period(p_account_id, v_terms.allowance, v_terms.rollover_limit,
        v_s.period_anchor, v_terms.burn_order, null, false);
    return true;
end $$;
comment on function pgsaas.give_default_plan(uuid, boolean) is
    'Puts an account without a live subscription on the default plan; false where there is none.';

create or replace function pgsaas.assign_default_plan(p_limit integer default null)
returns table (assigned bigint, remaining bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_id uuid;
    v_s pgsaas.subscriptions;
begin
    perform pgsaas.check_administers();
    assigned := 0;
    for v_id in
        select a.account_id from pgsaas.accounts a
         where a.erased_at is null and not exists (
               select from pgsaas.subscriptions s
                where s.account_id = a.account_id and s.ended_at is null)
         order by a.account_id limit p_limit
    loop
        perform pgsaas.lock_account(v_id);
        v_s := pgsaas.newest_subscription(v_id);
        if v_s.account_id is null or v_s.ended_at is not null then
            if not pgsaas.give_default_plan(v_id, false) then
                raise exception 'there is no default plan' using errcode = 'PT422';
            end if;
            assigned := assigned + 1;
        end if;
    end loop;
    select count(*) into remaining from pgsaas.accounts a
     where a.erased_at is null and not exists (
           select from pgsaas.subscriptions s
            where s.account_id = a.account_id and s.ended_at is null);
    return next;
end $$;
comment on function pgsaas.assign_default_plan(integer) is
    'Puts accounts without a live subscription on the default plan, up to p_limit of them (null: '
    'all): those that were there before the plan was. PT422 without a default plan. For the system '
    'and staff: PT403.';

create or replace function pgsaas.open_account(p_account_id uuid, p_realm text, p_external_id text,
    p_email text)
returns void
language plpgsql volatile
as $$
declare
    v_settings pgsaas.settings;
begin
    select * into v_settings from pgsaas.settings;
    perform pgsaas.insert_balance(p_account_id, v_settings.default_burn_order,
        v_settings.default_low_balance_at);
    perform pgsaas.give_default_plan(p_account_id, exists (
        select from pgsaas.erased_subjects e
         where e.subject_hash = any (pgsaas.subject_hashes(p_realm, p_external_id, p_email))));
end $$;
comment on function pgsaas.open_account(uuid, text, text, text) is
    'Opens the balance of a new account and puts it on the default plan.';

create or replace function pgsaas.create_account(
    p_account_id uuid default null, p_kind text default 'user', p_name text default null,
        p_email text default null,
    p_external_id text default null, p_realm text default null, p_profile jsonb default '{}')
returns table (account_id uuid, kind text, name text, email text, realm text, external_id text,
    profile jsonb, is_frozen boolean, created_at timestamptz, created boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_id uuid := coalesce(p_account_id, gen_random_uuid());
    v_realm text := coalesce(p_realm, pgsaas.identity_realm());
    v_known text;
begin
    if not pgsaas.acts_as_system() then
        raise exception 'only the system may do this' using errcode = 'PT403';
    end if;
    perform pgsaas.check_profile(p_name, p_email, p_profile);
    if p_kind is null or p_kind not in ('user', 'organization') then
        raise exception 'kind must be user or organization' using errcode = '22023';
    elsif octet_length(p_external_id) not between 1 and 255 or octet_length(v_realm) > 255 then
        raise exception 'an external id has 1 to 255 bytes, a realm at most 255' using errcode
            = '22023';
    end if;
    if p_external_id is not null then
        if exists (select from pgsaas.account_external_ids x
                    where x.account_id = p_account_id
                      and (x.realm, x.external_id) <> (v_realm, p_external_id)) then
            raise exception 'the account has another external id' using errcode = 'PT409';
        end if;
        insert into pgsaas.account_external_ids (realm, external_id, account_id)
        values (v_realm, p_external_id, v_id) on conflict do nothing;
        if not found then
            select x.account_id into v_id from pgsaas.account_external_ids x
             where x.realm = v_realm and x.external_id = p_external_id;
            if not found then    -- somebody named the account at the same moment
                raise exception 'the account has another external id' using errcode = 'PT409';
            elsif v_id is distinct from coalesce(p_account_id, v_id) then
                raise exception 'external id "%" belongs to another account',
                    p_external_id using errcode = 'PT409';
            end if;
            select a.kind into v_known from pgsaas.accounts a where a.account_id = v_id;
            if v_known <> p_kind then
                raise exception 'the account exists as %', v_known using errcode = 'PT409';
            end if;
            return query select * from pgsaas.account_row(v_id, false);
            return;
        end if;
    end if;
    insert into pgsaas.accounts (account_id, kind, name, email, profile, created_at)
    values (v_id, p_kind, p_name, p_email, coalesce(p_profile, '{}'), pgsaas.now())
    on conflict (account_id) do nothing;
    if not found then
        if p_external_id is not null then
            raise exception 'the account exists without this external id' using errcode = 'PT409';
        end if;
        select a.kind into v_known from pgsaas.accounts a where a.account_id = v_id;
        if v_known <> p_kind then
            raise exception 'the account exists as %', v_known using errcode = 'PT409';
        end if;
        return query select * from pgsaas.account_row(v_id, false);
        return;
    end if;
    perform pgsaas.open_account(v_id, v_realm, p_external_id, p_email);
    return query select * from pgsaas.account_row(v_id, true);
end $$;
comment on function pgsaas.create_account(uuid, text, text, text, text, text, jsonb) is
    'Creates an account, or returns the one there is: the same account id, or the same external id '
    'in the realm (null: the realm of user ids), names the same account; created tells which. A '
    'new one gets the default plan and its first allowance. PT409 if the ids belong to different '
    'accounts or the kind differs, 22023 for wrong arguments. Only the system: PT403 for a user.';

create or replace function pgsaas.set_frozen(p_account_id uuid, p_is_frozen boolean,
    p_reason text) returns boolean
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_reason(p_reason);
    v_b := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    elsif v_b.is_frozen = p_is_frozen then
        perform pgsaas.store_balance(v_b);
        return false;
    elsif not p_is_frozen and exists (
            select from pgsaas.accounts a where a.account_id = p_account_id
                and a.erased_at is not null) then
        raise exception 'an erased account stays frozen' using errcode = 'PT422';
    end if;
    v_b.is_frozen := p_is_frozen;
    perform pgsaas.store_balance(v_b);
    perform pgsaas.audit(case when p_is_frozen then 'account.frozen' else 'account.unfrozen' end,
        p_account_id,
        jsonb_build_object('reason', p_reason));
    return true;
end $$;
comment on function pgsaas.set_frozen(uuid, boolean, text) is
    'Freezes or unfreezes; whether that changed anything.';

create or replace function pgsaas.freeze_account(p_account_id uuid, p_reason text) returns boolean
language sql volatile security definer set search_path = ''
as $$ select pgsaas.set_frozen(p_account_id, true, p_reason) $$;
comment on function pgsaas.freeze_account(uuid, text) is
    'Stops an account: no deduction, hold or transfer; captures, releases, refunds and revocations '
    'go on. False if it was frozen. PT404, PT403, 22023 without a reason. Audited.';

create or replace function pgsaas.unfreeze_account(p_account_id uuid, p_reason text) returns boolean
language sql volatile security definer set search_path = ''
as $$ select pgsaas.set_frozen(p_account_id, false, p_reason) $$;
comment on function pgsaas.unfreeze_account(uuid, text) is
    'Lets a frozen account go on. False if it was not frozen. PT404, PT403, 22023 without a '
    'reason, PT422 if it was erased. Audited.';

create or replace function pgsaas.export_account(p_account_id uuid)
returns table (section text, record jsonb)
language plpgsql stable security definer set search_path = ''
as $$
begin
    if not pgsaas.may_administer() and not pgsaas.may(p_account_id, 'manage')
       or not exists (select from pgsaas.accounts a where a.account_id = p_account_id) then
        perform pgsaas.raise_not_found('account');
    end if;
    return query
        select 'account', to_jsonb(r) - 'created' from pgsaas.account_row(p_account_id, false) r
        union all
        select 'balance', to_jsonb(r) from pgsaas.get_balance(p_account_id) r
        union all
        (select 'member', to_jsonb(m) from pgsaas.account_members m
            where m.account_id = p_account_id order by m.user_id)
        union all
        (select 'subscription', to_jsonb(s) from pgsaas.subscriptions s
          where s.account_id = p_account_id order by s.subscription_id)
        union all
        (select 'grant', to_jsonb(g) - 'is_open' - 'source_rank'
             || jsonb_build_object('remaining', coalesce(o.remaining, 0))
           from pgsaas.credit_grants g
           left join pgsaas.open_credit_grants o using (account_id, grant_id)
          where g.account_id = p_account_id order by g.grant_id)
        union all
        (select 'hold', to_jsonb(h) - 'request_hash'
             || case when h.state = 'open' and o.hold_id is null
                 then '{"state": "lapsed"}' else '{}' end::jsonb
           from pgsaas.credit_holds h
           left join pgsaas.open_credit_holds o using (account_id, hold_id)
          where h.account_id = p_account_id order by h.hold_id)
        union all
        (select 'usage', to_jsonb(u) - 'request_hash' from pgsaas.usage_records u
          where u.account_id = p_account_id order by u.usage_id)
        union all
        (select 'debt', to_jsonb(d) from pgsaas.credit_debts d
          where d.account_id = p_account_id order by d.debt_id)
        union all
        (select 'checkpoint', to_jsonb(c) from pgsaas.credit_checkpoints c
          where c.account_id = p_account_id order by c.seq)
        union all
        (select 'archived_key', to_jsonb(k) - 'request_hash' - 'key_scope'
            from pgsaas.archived_keys k where k.account_id = p_account_id order by k.seq)
        union all
        (select 'transaction', to_jsonb(t) - 'request_hash' - 'key_scope'
            from pgsaas.credit_transactions t
          where t.account_id = p_account_id order by t.seq)
        union all
        (select 'job', to_jsonb(j) - 'request_hash' from pgsaas.jobs j
          where j.account_id = p_account_id order by j.created_at, j.job_id)
        union all
        (select 'entitlement', to_jsonb(e) from pgsaas.entitlement_overrides e
          where e.account_id = p_account_id order by e.feature)
        union all
        (select 'entitlement_usage', to_jsonb(e) from pgsaas.entitlement_usage e
          where e.account_id = p_account_id order by e.feature, e.period_start)
        union all
        (select 'spend_cap', to_jsonb(c) from pgsaas.spend_caps c
          where c.account_id = p_account_id order by c.subject_kind, c.subject)
        union all
        (select 'redemption', to_jsonb(r) from pgsaas.redemptions r
          where r.account_id = p_account_id order by r.redeemed_at, r.reward_id)
        union all
        (select 'referral', to_jsonb(r) from pgsaas.referrals r
          where p_account_id in (r.account_id, r.referrer_id) order by r.account_id)
        union all
        (select 'message', to_jsonb(o) from pgsaas.outbox_messages o
          where o.account_id = p_account_id order by o.outbox_message_id)
        union all
        (select 'audit_event', to_jsonb(e) from pgsaas.audit_events e
          where e.account_id = p_account_id order by e.audit_event_id);
end $$;
comment on function pgsaas.export_account(uuid) is
    'Everything that is kept about an account, one JSON object a row, by section: account, '
    'balance, member, subscription, grant, hold, usage, debt, checkpoint, archived_key, '
    'transaction, job, entitlement, entitlement_usage, spend_cap, redemption, referral, message, '
    'audit_event; sums of usage by day and period aside. For its owners and admins, the system and '
    'staff. PT404, PT403.';

create or replace function pgsaas.erase_account(p_account_id uuid, p_reason text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_b pgsaas.account_balances;
    v_account record;
    v_user_id text;
    v_organizations uuid[];
    v_s pgsaas.subscriptions;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_reason(p_reason);
    v_b := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    -- the external id first, as the trigger of an attached table locks them; then the account and
    -- what its person is a member of, by either id that may name them, in the order of ids
    perform 1 from pgsaas.account_external_ids x where x.account_id = p_account_id for update;
    select a.erased_at, a.email, x.realm, x.external_id into v_account
      from pgsaas.accounts a left join pgsaas.account_external_ids x on x.account_id = a.account_id
     where a.account_id = p_account_id;
    v_user_id := case when v_account.external_id is null then p_account_id::text
        when v_account.realm = pgsaas.identity_realm() then v_account.external_id end;
    v_organizations := array(
        select m.account_id from pgsaas.account_members m
         where m.user_id = v_user_id and m.account_id <> p_account_id);
    perform 1 from pgsaas.accounts a where a.account_id = any (v_organizations || p_account_id)
      order by a.account_id for no key update;
    if exists (select from pgsaas.account_members m
                where m.user_id = v_user_id and m.account_id <> p_account_id
                  and m.account_id <> all (v_organizations)) then
        raise exception 'they joined an organization meanwhile; run it again'
            using errcode = '40001';
    end if;
    select a.erased_at into v_account.erased_at
      from pgsaas.accounts a where a.account_id = p_account_id;
    if v_account.erased_at is not null then
        perform pgsaas.store_balance(v_b);
        return false;
    end if;
    insert into pgsaas.erased_subjects (subject_hash, erased_at)
    select h.hash, pgsaas.now()
      from unnest(pgsaas.subject_hashes(v_account.realm, v_account.external_id,
          v_account.email)) h (hash)
    on conflict do nothing;
    v_b.is_frozen := true;
    v_b.allowance := 0;
    v_b.period_granted := 0;
    v_b.next_reset_at := 'infinity';
    v_b.period_anchor := null;
    v_b.terms_end_at := null;
    v_b.next_terms := null;
    v_b.low_balance_at := null;
    perform pgsaas.store_balance(v_b);
    v_s := pgsaas.newest_subscription(p_account_id);
    if v_s.account_id is not null and v_s.ended_at is null then
        v_s.status := 'canceled';
        v_s.ended_at := v_b.last_at;
        v_s.change_at := null;
        v_s.change_kind := null;
        v_s.next_plan := null;
        perform pgsaas.store_subscription(v_s);
    end if;
    update pgsaas.accounts a set name = null, email = null, profile = '{}', erased_at = pgsaas.now()
     where a.account_id = p_account_id;
    perform pgsaas.check_not_last_owner(x.id, v_user_id) from unnest(v_organizations) x (id);
    delete from pgsaas.account_members m
     where m.user_id = v_user_id and m.account_id = any (v_organizations);
    perform pgsaas.audit('member.removed', x.id) from unnest(v_organizations) x (id);
    perform 1 from pgsaas.audit_events e
      where e.account_id = p_account_id or e.details ->> 'user_id' = v_user_id
         or starts_with(e.actor, 'user:' || v_user_id || ' role:')
      order by e.audit_event_id for update;
    update pgsaas.audit_events e
       set details = case when e.details ->> 'user_id' = v_user_id
               then e.details - 'user_id' else e.details end,
           actor = case when starts_with(e.actor, 'user:' || v_user_id || ' role:')
               then 'user:erased' || substr(e.actor, length('user:' || v_user_id) + 1)
               else e.actor end
     where e.details ->> 'user_id' = v_user_id
        or starts_with(e.actor, 'user:' || v_user_id || ' role:');
    delete from pgsaas.account_external_ids x where x.account_id = p_account_id;
    delete from pgsaas.account_members m where m.account_id = p_account_id;
    update pgsaas.audit_events e set details = '{}' where e.account_id = p_account_id;
    perform pgsaas.erase_texts(p_account_id);
    update pgsaas.jobs j set input = null, output = null, error = null, subjects = '{}'
     where j.account_id = p_account_id;
    delete from pgsaas.entitlement_overrides o where o.account_id = p_account_id;
    delete from pgsaas.referral_codes c where c.account_id = p_account_id;
    delete from pgsaas.spend_caps c where c.account_id = p_account_id;
    update pgsaas.usage_records u set metadata = null
     where u.account_id = p_account_id and u.metadata is not null;
    perform pgsaas.audit('account.erased', p_account_id, jsonb_build_object('reason', p_reason));
    return true;
end $$;
comment on function pgsaas.erase_account(uuid, text) is
    'Erases a person from an account, for ever: name, address, profile, host id (from the audit '
    'log, too), members, memberships, descriptions and metadata go; figures, times, keys, '
    'dimensions of use, job and agent ids stay, and the account is frozen without an allowance. '
    'False if that was done before. PT422 while they are the only owner of an organization, PT404,'
    ' PT403, 22023 without a reason; 40001 if they joined one at the same moment. Audited.';
