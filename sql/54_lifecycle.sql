-- The life of an account: created, on the default plan, frozen.
--
-- Creating is idempotent by the account id or by the host's own id: two transactions that create
-- one account meet at the unique external id, and the later one gets the earlier one's account. An
-- erased person gets no second first allowance: a salted hash of the id and of the address is kept
-- for that, and nothing else (78_erasure). Lock rule: a new account's rows are its own; freezing
-- locks the account's row of the ledger.

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

create or replace function pgsaas.person_hashes(p_account_id uuid) returns bytea[]
language sql stable
as $$
    select coalesce(pgsaas.subject_hashes(x.realm, x.external_id, a.email), '{}')
      from pgsaas.accounts a left join pgsaas.account_external_ids x using (account_id)
     where a.account_id = p_account_id
$$;
comment on function pgsaas.person_hashes(uuid) is
    'By what the person behind an account is known again.';

-- The default plan of an account that has no subscription; without an allowance for a person who
-- was erased before.
create or replace function pgsaas.give_default_plan(p_account_id uuid, p_is_barred boolean)
returns boolean
language plpgsql volatile
as $$
declare
    v_s pgsaas.subscriptions := pgsaas.newest_subscription(p_account_id);
    v_b pgsaas.account_balances;
    v_terms record;
begin
    select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    if v_b.period_anchor is not null then
        v_b := pgsaas.settle_period(p_account_id);
    end if;
    v_s.account_id := p_account_id;
    v_s.period_anchor := v_b.period_anchor;    -- where the last month of another still runs
    v_s.follows := null;
    v_s := pgsaas.default_subscription(v_s, greatest(pgsaas.now(), v_b.last_at));
    if v_s.account_id is null then
        return false;
    end if;
    v_s.allowance := case when p_is_barred then 0 end;
    perform pgsaas.store_subscription(v_s);
    v_terms := pgsaas.plan_terms(v_s);
    if v_b.period_anchor is not null then
        perform pgsaas.apply_terms(v_s, false, v_terms.allowance);
    else
        perform pgsaas.start_period(p_account_id, v_terms.allowance, v_terms.rollover_limit,
            v_s.period_anchor, v_terms.burn_order);
    end if;
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
    perform pgsaas.check_limit(p_limit);
    assigned := 0;
    for v_id in
        select a.account_id from pgsaas.accounts a
         where a.erased_at is null and not exists (
               select from pgsaas.subscriptions s
                where s.account_id = a.account_id and s.ended_at is null
                  and coalesce(s.due_at > pgsaas.now(), true))
         order by a.account_id limit p_limit
    loop
        v_s := (pgsaas.settle_subscription(v_id)).p_s;
        if v_s.account_id is null or v_s.ended_at is not null then
            if not pgsaas.give_default_plan(v_id, exists (
                    select from pgsaas.erased_subjects e
                     where e.subject_hash = any (pgsaas.person_hashes(v_id)))) then
                raise exception 'there is no default plan' using errcode = 'PT422';
            end if;
            assigned := assigned + 1;
        end if;
    end loop;
    select count(*) into remaining from pgsaas.accounts a
     where a.erased_at is null and not exists (
           select from pgsaas.subscriptions s
            where s.account_id = a.account_id and s.ended_at is null
              and coalesce(s.due_at > pgsaas.now(), true));
    return next;
end $$;
comment on function pgsaas.assign_default_plan(integer) is
    'Puts accounts without a live subscription on the default plan, up to p_limit of them (null: '
    'all): those that were there before the plan was. PT422 without a default plan, 22023. For the '
    'system and staff: PT403.';

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
    perform pgsaas.check_system();
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
