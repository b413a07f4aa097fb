-- Rewards: promotion codes and referrals.
--
-- A code is redeemed once per account and once per person: a salted hash of the host's id and of
-- the address is kept, so that a second account, or one that comes back after being erased, gets
-- nothing. A referral is earned when the referred account first pays: its own credits come then,
-- those of the referrer by a step of run_due(), because nobody may lock a second account here. What
-- a referral is worth is what it was worth when it was earned.
--
-- Lock rule: the account's row of the ledger first, then the reward's.

create or replace function pgsaas.set_reward(
    p_reward_id text, p_terms jsonb, p_reason text default null)
returns table (reward_id text, changed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := pgsaas.now();
    v_was pgsaas.rewards;
    v_new pgsaas.rewards;
    v_name text;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    perform pgsaas.check_terms(format('reward "%s"', p_reward_id), p_terms,
        '{kind,description,credits,referrer_credits,expires_after,starts_at,ends_at,'
        'max_redemptions,account_age,active}');
    if p_reward_id is null or p_reward_id !~ '^[A-Z0-9][A-Z0-9_-]{0,63}$' then
        raise exception 'a reward''s id has 1 to 64 capital letters, digits, _ and -, not "%"',
            p_reward_id using errcode = '22023';
    elsif jsonb_typeof(p_terms -> 'active') <> 'boolean' then
        raise exception '"active" is true or false' using errcode = '22023';
    end if;
    foreach v_name in array '{starts_at,ends_at}'::text[] loop
        if pgsaas.term_text(p_terms, v_name)
           !~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|\+00:00)?)?$' then
            raise exception '"%" is a time in UTC such as "2026-12-24", not "%"', v_name,
                p_terms ->> v_name using errcode = '22023';
        end if;
    end loop;
    v_new.reward_id := p_reward_id;
    v_new.reward_kind := pgsaas.term_text(p_terms, 'kind', 'code');
    v_new.description := pgsaas.term_text(p_terms, 'description');
    v_new.credits := pgsaas.term_number(p_terms, 'credits', 0, 1000000000000, 6, 0);
    v_new.referrer_credits := pgsaas.term_number(p_terms, 'referrer_credits', 0, 1000000000000,
        6, 0);
    v_new.expires_after := pgsaas.term_interval(p_terms, 'expires_after', '20 years');
    v_new.starts_at := regexp_replace(p_terms ->> 'starts_at', '(Z|\+00:00)$', '')::timestamp
        at time zone 'UTC';
    v_new.ends_at := regexp_replace(p_terms ->> 'ends_at', '(Z|\+00:00)$', '')::timestamp
        at time zone 'UTC';
    v_new.max_redemptions := pgsaas.term_number(p_terms, 'max_redemptions', 1, 1000000000, 0);
    v_new.account_age := pgsaas.term_interval(p_terms, 'account_age', '20 years');
    v_new.is_active := coalesce((p_terms ->> 'active')::boolean, true);
    v_new.created_at := v_now;
    v_new.changed_at := v_now;
    if v_new.reward_kind not in ('code', 'referral') then
        raise exception '"kind" is code or referral, not "%"', v_new.reward_kind
            using errcode = '22023';
    elsif v_new.ends_at <= v_new.starts_at then
        raise exception '"ends_at" is after "starts_at"' using errcode = '22023';
    elsif v_new.credits = 0 and v_new.referrer_credits = 0
          or v_new.reward_kind = 'code' and v_new.credits = 0 then
        raise exception 'a reward needs "credits" above 0' using errcode = '22023';
    elsif octet_length(v_new.description) > 4096 then
        raise exception 'a description has at most 4096 bytes' using errcode = '22023';
    elsif v_new.reward_kind = 'referral' and v_new.is_active and exists (
            select from pgsaas.rewards r where r.reward_kind = 'referral' and r.is_active
               and r.reward_id <> p_reward_id) then
        raise exception '"%" would be a second reward for referrals', p_reward_id
            using errcode = 'PT409';
    end if;
    v_new.redeemed := 0;
    insert into pgsaas.rewards select v_new.* on conflict do nothing;
    changed := found;
    if not changed then
        select * into v_was from pgsaas.rewards r where r.reward_id = p_reward_id
            for no key update;
        changed := to_jsonb(v_was) - '{created_at,changed_at,redeemed}'::text[]
            <> to_jsonb(v_new) - '{created_at,changed_at,redeemed}'::text[];
        if changed and v_was.changed_at > v_now then
            raise exception 'somebody else has changed the reward "%" meanwhile', p_reward_id
                using errcode = '40001';
        elsif v_was.redeemed > v_new.max_redemptions then
            raise exception '"%" was redeemed % times already', p_reward_id, v_was.redeemed
                using errcode = 'PT422';
        end if;
        update pgsaas.rewards r
           set reward_kind = v_new.reward_kind, description = v_new.description,
               credits = v_new.credits, referrer_credits = v_new.referrer_credits,
               expires_after = v_new.expires_after, starts_at = v_new.starts_at,
               ends_at = v_new.ends_at, max_redemptions = v_new.max_redemptions,
               account_age = v_new.account_age, is_active = v_new.is_active, changed_at = v_now
         where r.reward_id = p_reward_id and changed;
    end if;
    if changed then
        perform pgsaas.audit('reward.changed', null, jsonb_build_object('reward', p_reward_id,
            'terms', p_terms, 'reason', p_reason));
    end if;
    reward_id := p_reward_id;
    return next;
end $$;
comment on function pgsaas.set_reward(text, jsonb, text) is
    'Makes a promotion code, or what referrals are worth, or changes it. Terms: kind (code or '
    'referral), description, credits (for who redeems it, or was referred), referrer_credits, '
    'expires_after (the credits; never if left out), starts_at and ends_at (UTC), max_redemptions, '
    'account_age (only accounts that are not older, such as "7 days"), active. 22023 for wrong '
    'terms, PT409 for a second one for referrals, PT422 for fewer redemptions than there were, '
    '40001 when somebody changed it meanwhile. Audited.';

create or replace function pgsaas.grant_reward(
    inout p_b pgsaas.account_balances, p_source text, p_amount numeric, p_expires_after interval,
    p_description text)
language plpgsql volatile
as $$
declare
    v_row pgsaas.credit_transactions;
begin
    p_b := pgsaas.open_grant(p_b, p_source, p_amount,
        coalesce(p_b.last_at + p_expires_after, 'infinity'));
    v_row := pgsaas.new_row('grant', p_amount, p_b.last_at, p_b.grant_count);
    v_row.description := p_description;
    p_b := pgsaas.append_row(p_b, v_row);
end $$;
comment on function pgsaas.grant_reward(pgsaas.account_balances, text, numeric, interval, text) is
    'Grants a settled account a reward; the caller stores the balance.';

create or replace function pgsaas.redeem_code(p_account_id uuid, p_code text)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, grant_id bigint)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_code constant text := upper(regexp_replace(p_code, '\s', '', 'g'));
    v_b pgsaas.account_balances := pgsaas.lock_for(p_account_id, 'pay');
    v_reward pgsaas.rewards;
    v_hashes bytea[];
begin
    success := false;
    replayed := false;
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_b := pgsaas.settle_account(v_b);
    v_hashes := pgsaas.person_hashes(p_account_id);
    select * into v_reward from pgsaas.rewards r
     where r.reward_id = v_code and r.reward_kind = 'code' for no key update;
    if not coalesce(v_reward.is_active and coalesce(v_reward.starts_at <= v_b.last_at, true)
           and coalesce(v_reward.ends_at > v_b.last_at, true), false) then
        error_code := 'CODE_INVALID';
        error_message := 'there is no such code, or not now';
    elsif exists (select from pgsaas.redemptions x
                   where x.account_id = p_account_id and x.reward_id = v_code)
          or exists (select from pgsaas.redeemed_subjects x
                      where x.reward_id = v_code and x.subject_hash = any (v_hashes)) then
        error_code := 'CODE_REDEEMED';
        error_message := 'the code was redeemed before';
    elsif v_b.is_frozen or exists (
            select from pgsaas.accounts a
             where a.account_id = p_account_id
               and a.created_at < v_b.last_at - v_reward.account_age) then
        error_code := 'CODE_NOT_ALLOWED';
        error_message := case when v_b.is_frozen then 'the account is frozen'
            else 'the code is for newer accounts' end;
    elsif v_reward.redeemed >= v_reward.max_redemptions then
        error_code := 'CODE_EXHAUSTED';
        error_message := 'the code was redeemed as often as it may be';
    else
        update pgsaas.rewards r set redeemed = r.redeemed + 1 where r.reward_id = v_code;
        insert into pgsaas.redeemed_subjects (reward_id, subject_hash)
        select v_code, h from unnest(v_hashes) h;
        v_b := pgsaas.grant_reward(v_b, 'bonus', v_reward.credits, v_reward.expires_after,
            'code ' || v_code);
        success := true;
        seq := v_b.seq;
        grant_id := v_b.grant_count;
        insert into pgsaas.redemptions (account_id, reward_id, redeemed_at, seq, grant_id)
        values (p_account_id, v_code, v_b.last_at, v_b.seq, v_b.grant_count);
    end if;
    perform pgsaas.store_balance(v_b);
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    return next;
end $$;
comment on function pgsaas.redeem_code(uuid, text) is
    'Grants what a promotion code is worth, in capitals or not: once per account and per person '
    '(CODE_REDEEMED), as often as it may be (CODE_EXHAUSTED), in its time (CODE_INVALID, also for '
    'an unknown one), and only to accounts that are young enough and not frozen '
    '(CODE_NOT_ALLOWED). ACCOUNT_NOT_FOUND.';

create or replace function pgsaas.get_referral_code(p_account_id uuid) returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_code text;
begin
    if not pgsaas.may(p_account_id, 'read') or not exists (
            select from pgsaas.accounts a
             where a.account_id = p_account_id and a.erased_at is null) then
        perform pgsaas.raise_not_found('account');
    end if;
    insert into pgsaas.referral_codes (referral_code, account_id)
    values (upper(translate(substr(replace(gen_random_uuid()::text, '-', ''), 1, 10), '01', 'xy')),
        p_account_id)
    on conflict (account_id) do nothing;
    select c.referral_code into strict v_code
      from pgsaas.referral_codes c where c.account_id = p_account_id;
    return v_code;
end $$;
comment on function pgsaas.get_referral_code(uuid) is
    'The code by which an account refers others; the same each time. PT404.';

create or replace function pgsaas.set_referrer(p_account_id uuid, p_referral_code text)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_b pgsaas.account_balances;
    v_referrer uuid;
begin
    perform pgsaas.check_system();
    v_b := pgsaas.lock_account(p_account_id);
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    end if;
    select c.account_id into v_referrer from pgsaas.referral_codes c
     where c.referral_code = upper(trim(p_referral_code));
    -- no one refers themselves, nor somebody who has paid already or was here before
    if v_referrer is null or v_referrer = p_account_id
       or exists (select from pgsaas.accounts a
                   where a.account_id = p_account_id and a.erased_at is not null)
       or pgsaas.person_hashes(v_referrer) && pgsaas.person_hashes(p_account_id)
       or exists (select from pgsaas.erased_subjects e
                   where e.subject_hash = any (pgsaas.person_hashes(p_account_id)))
       or exists (select from pgsaas.credit_grants g
                   where g.account_id = p_account_id and g.source = 'purchase')
       or exists (select from pgsaas.subscriptions s
                   where s.account_id = p_account_id and s.unit_amount > 0) then
        return false;
    end if;
    insert into pgsaas.referrals (account_id, referrer_id, referred_at)
    values (p_account_id, v_referrer, greatest(pgsaas.now(), v_b.last_at))
    on conflict do nothing;
    return found;
end $$;
comment on function pgsaas.set_referrer(uuid, text) is
    'Notes by whose code an account came; once. False for an unknown code, one of the account''s '
    'own person, and for an account that has paid or was erased before. Only the system: PT403. '
    'PT404.';

create or replace function pgsaas.earn_referral(p_account_id uuid) returns boolean
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances;
    v_reward pgsaas.rewards;
    v_is_first boolean;
begin
    if not exists (select from pgsaas.referrals r
                        join pgsaas.accounts a using (account_id)
                       where r.account_id = p_account_id and r.earned_at is null
                         and a.erased_at is null) then
        return false;
    end if;
    v_b := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    select * into v_reward from pgsaas.rewards r where r.reward_kind = 'referral' and r.is_active
       and coalesce(r.starts_at <= v_b.last_at, true) and coalesce(r.ends_at > v_b.last_at, true);
    update pgsaas.referrals r
       set earned_at = v_b.last_at, credits = coalesce(v_reward.credits, 0),
           referrer_credits = coalesce(v_reward.referrer_credits, 0),
           expires_after = v_reward.expires_after,
           paid_at = case when coalesce(v_reward.referrer_credits, 0) = 0 then v_b.last_at end
     where r.account_id = p_account_id and r.earned_at is null;
    v_is_first := found;
    if v_is_first and v_reward.credits > 0 then
        v_b := pgsaas.grant_reward(v_b, 'referral', v_reward.credits, v_reward.expires_after,
            'for coming by a referral');
    end if;
    perform pgsaas.store_balance(v_b);
    return v_is_first;
end $$;
comment on function pgsaas.earn_referral(uuid) is
    'Rewards an account that pays for having been referred, the first time.';

create or replace function pgsaas.reward_referral(p_account_id uuid) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_system();
    return pgsaas.earn_referral(p_account_id);
end $$;
comment on function pgsaas.reward_referral(uuid) is
    'Called when an account pays: the first time, if somebody referred it, both are rewarded, the '
    'referrer by the next run_due(). Said again, or without a referrer, it does nothing and is '
    'false. start_subscription() calls it itself for a plan that costs something. Only the system: '
    'PT403.';

create or replace function pgsaas.pay_referrals(p_limit integer default 1000)
returns table (done bigint, remaining bigint)
language plpgsql volatile rows 1
as $$
#variable_conflict use_column
declare
    v_due pgsaas.referrals;
    v_b pgsaas.account_balances;
begin
    done := 0;
    for v_due in
        select r.* from pgsaas.referrals r
          join pgsaas.account_balances b on b.account_id = r.referrer_id
         where r.earned_at is not null and r.paid_at is null
         order by r.referrer_id, r.account_id limit p_limit
           for no key update of r, b skip locked
    loop
        v_b := pgsaas.settle_account(pgsaas.lock_account(v_due.referrer_id));
        if not v_b.is_frozen then    -- an erased account stays frozen: its reward lapses
            v_b := pgsaas.grant_reward(v_b, 'referral', v_due.referrer_credits,
                v_due.expires_after, 'for a referral');
        end if;
        perform pgsaas.store_balance(v_b);
        update pgsaas.referrals r set paid_at = v_b.last_at where r.account_id = v_due.account_id;
        done := done + 1;
    end loop;
    select count(*) into remaining from (
        select from pgsaas.referrals r
         where r.earned_at is not null and r.paid_at is null limit 1000) x;
    return next;
end $$;
comment on function pgsaas.pay_referrals(integer) is
    'Grants referrers what they have earned, those that nobody holds; a frozen one gets nothing.';
