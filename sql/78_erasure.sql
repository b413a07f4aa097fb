-- Export and erasure: what is kept about an account, and what goes when its person asks for it.
--
-- The export is everything, one JSON object a row. Erasing nulls free text and keeps every figure:
-- the ledger stays provable. It is for ever; the account is frozen, without a plan and an
-- allowance from then on, and a salted hash of its ids bars a second first allowance
-- (54_lifecycle).
--
-- Lock rule: the account's row of the ledger, then its external id, then accounts in the order of
-- their ids, then audit events in theirs.

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
        (select 'referral_code', to_jsonb(c) from pgsaas.referral_codes c
          where c.account_id = p_account_id)
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
    'transaction, job, entitlement, entitlement_usage, spend_cap, redemption, referral_code, '
    'referral, message, audit_event; sums of usage by day and period aside. For its owners and '
    'admins, the system and '
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
    v_b.period_raises := null;
    v_b.next_reset_at := 'infinity';
    v_b.period_anchor := null;
    v_b.terms_end_at := null;
    v_b.next_terms := null;
    v_b.low_balance_at := null;
    perform pgsaas.store_balance(v_b);
    v_s := pgsaas.newest_subscription(p_account_id);
    if v_s.account_id is not null and v_s.ended_at is null then
        perform pgsaas.close_subscription(v_s, 'canceled', v_b.last_at);
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
    update pgsaas.jobs j
       set job_type = null, input = null, output = null, error = null, subjects = '{}'
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
