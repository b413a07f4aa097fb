-- Accounts and members: who is billed, and who acts for whom.
--
-- A row of accounts describes the billed party; its credits live in account_balances (30_ledger).
-- Members are known by the id that the host's identity provider gives them (text). A user account's
-- own user is its owner without a row. Only owners name or unname owners, and the last owner of an
-- organization stays. Members are changed under the account's row lock, so that two owners cannot
-- remove each other at once; that lock never meets the ledger's, which is on another row.

create or replace function pgsaas.account_row(p_account_id uuid, p_created boolean)
returns table (account_id uuid, kind text, name text, email text, realm text, external_id text,
    profile jsonb, is_frozen boolean, created_at timestamptz, created boolean)
language sql stable rows 1
as $$
    select a.account_id, a.kind, a.name, a.email, x.realm, x.external_id, a.profile, b.is_frozen,
        a.created_at, p_created
      from pgsaas.accounts a
      join pgsaas.account_balances b on b.account_id = a.account_id
      left join pgsaas.account_external_ids x on x.account_id = a.account_id
     where a.account_id = p_account_id
$$;
comment on function pgsaas.account_row(uuid, boolean) is
    'An account as the functions of this room return it.';

create or replace function pgsaas.check_profile(p_name text, p_email text,
    p_profile jsonb) returns void
language plpgsql immutable
as $$
begin
    if octet_length(p_name) > 1000 or octet_length(p_email) > 1000 then
        raise exception 'name and email must not exceed 1000 bytes' using errcode = '22023';
    elsif jsonb_typeof(p_profile) <> 'object' or octet_length(p_profile::text) > 16384 then
        raise exception 'a profile is a JSON object of at most 16384 bytes' using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.check_profile(text, text, jsonb) is
    'Raises 22023 unless these may be stored. Null passes.';

create or replace function pgsaas.identity_realm() returns text
language sql stable security definer set search_path = ''
as $$ select s.identity_realm from pgsaas.settings s $$;
comment on function pgsaas.identity_realm() is
    'The realm of external ids that users'' claims are compared with.';

create or replace function pgsaas.account_id_for(p_external_id text,
    p_realm text default null) returns uuid
language sql stable
as $$
    select x.account_id from pgsaas.account_external_ids x
     where x.external_id = p_external_id
       and x.realm = coalesce(p_realm, pgsaas.identity_realm())
$$;
comment on function pgsaas.account_id_for(text, text) is
    'The account of the host''s own id, in a realm (null: the one that user ids belong to); null '
    'if there is none that the caller may see.';

create or replace function pgsaas.update_account(
    p_account_id uuid, p_name text default null, p_email text default null,
        p_profile jsonb default null)
returns table (account_id uuid, kind text, name text, email text, realm text, external_id text,
    profile jsonb, is_frozen boolean, created_at timestamptz, created boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
begin
    perform pgsaas.check_profile(p_name, p_email, p_profile);
    if pgsaas.may(p_account_id, 'manage') then
        update pgsaas.accounts a
           set name = coalesce(p_name, a.name), email = coalesce(p_email, a.email),
               profile = a.profile || coalesce(p_profile, '{}')
         where a.account_id = p_account_id and a.erased_at is null;
        if found then
            perform pgsaas.check_profile(null, null, a.profile)
               from pgsaas.accounts a where a.account_id = p_account_id;
            return query select * from pgsaas.account_row(p_account_id, false);
            return;
        end if;
    end if;
    perform pgsaas.raise_not_found('account');
end $$;
comment on function pgsaas.update_account(uuid, text, text, jsonb) is
    'Changes name, email and profile of an account: null leaves as it is, a profile''s keys are '
    'merged into the old ones. PT404, PT403, 22023.';

-- Locks the account's row and checks who asks: the first half of every change of members.
create or replace function pgsaas.check_manages(p_account_id uuid, p_user_id text,
    p_role text) returns void
language plpgsql volatile
as $$
declare
    v_mine text;
begin
    if p_user_id is null or octet_length(p_user_id) not between 1 and 255 then
        raise exception 'a user id has 1 to 255 bytes' using errcode = '22023';
    elsif p_role not in ('owner', 'admin', 'billing', 'member') then
        raise exception 'no role "%"', p_role using errcode = '22023',
            hint = 'Roles are owner, admin, billing, member.';
    end if;
    if not pgsaas.acts_as_system() and pgsaas.my_role(p_account_id) is null then
        perform pgsaas.raise_not_found('account');    -- a stranger does not even get to the lock
    end if;
    perform 1 from pgsaas.accounts a
      where a.account_id = p_account_id and a.erased_at is null for no key update;
    if not found then
        perform pgsaas.raise_not_found('account');
    end if;
    v_mine := pgsaas.my_role(p_account_id);    -- it may have changed while the lock was waited for
    if not pgsaas.acts_as_system() and v_mine is null then
        perform pgsaas.raise_not_found('account');
    elsif not pgsaas.acts_as_system() and v_mine <> 'owner' and (p_role = 'owner' or exists (
              select from pgsaas.account_members m
               where m.account_id = p_account_id and m.user_id = p_user_id
                   and m.member_role = 'owner')) then
        raise exception 'only an owner names or unnames an owner' using errcode = 'PT403';
    elsif not (p_role is null and p_user_id = pgsaas.current_user_id()) then
        perform pgsaas.may(p_account_id, 'manage');
    end if;
end $$;
comment on function pgsaas.check_manages(uuid, text, text) is
    'Locks an account to change its members; raises unless the caller may give this user this role '
    '(null: remove them).';

create or replace function pgsaas.check_not_last_owner(p_account_id uuid,
    p_user_id text) returns void
language plpgsql volatile
as $$
begin
    if exists (select from pgsaas.account_members m
                where m.account_id = p_account_id and m.user_id = p_user_id
                    and m.member_role = 'owner')
       and not exists (select from pgsaas.account_members m
                        where m.account_id = p_account_id and m.user_id <> p_user_id
                            and m.member_role = 'owner')
       and exists (select from pgsaas.accounts a where a.account_id = p_account_id
           and a.kind = 'organization') then
        raise exception 'the last owner of an organization stays' using errcode = 'PT422',
            hint = 'Name another owner first.';
    end if;
end $$;
comment on function pgsaas.check_not_last_owner(uuid, text) is
    'Raises PT422 if this user is the organization''s only owner.';

create or replace function pgsaas.add_member(p_account_id uuid, p_user_id text,
    p_role text default 'member')
returns table (account_id uuid, user_id text, member_role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_member pgsaas.account_members;
begin
    if p_role is null then
        raise exception 'a member needs a role' using errcode = '22023';
    end if;
    perform pgsaas.check_manages(p_account_id, p_user_id, p_role);
    select * into v_member from pgsaas.account_members m where m.account_id = p_account_id
        and m.user_id = p_user_id;
    if not found then
        insert into pgsaas.account_members (account_id, user_id, member_role, created_at)
        values (p_account_id, p_user_id, p_role, pgsaas.now()) returning * into v_member;
        perform pgsaas.audit('member.added', p_account_id, jsonb_build_object('user_id', p_user_id,
            'role', p_role));
    elsif v_member.member_role <> p_role then
        raise exception 'the user is a member already, as %', v_member.member_role using errcode
            = 'PT409',
            hint = 'set_member_role (pgsaas accounts members role) changes that.';
    end if;
    return query select v_member.account_id, v_member.user_id, v_member.member_role,
        v_member.created_at;
end $$;
comment on function pgsaas.add_member(uuid, text, text) is
    'Makes a user a member: owner, admin, billing or member. The same again changes nothing; with '
    'another role PT409. Only owners (or the system) name owners. PT404, PT403, 22023. Audited.';

create or replace function pgsaas.set_member_role(p_account_id uuid, p_user_id text, p_role text)
returns table (account_id uuid, user_id text, member_role text, created_at timestamptz)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_member pgsaas.account_members;
    v_old text;
begin
    if p_role is null then
        raise exception 'a member needs a role' using errcode = '22023';
    end if;
    perform pgsaas.check_manages(p_account_id, p_user_id, p_role);
    select m.member_role into v_old from pgsaas.account_members m
     where m.account_id = p_account_id and m.user_id = p_user_id;
    if not found then
        perform pgsaas.raise_not_found('member');
    elsif p_role <> 'owner' then
        perform pgsaas.check_not_last_owner(p_account_id, p_user_id);
    end if;
    update pgsaas.account_members m set member_role = p_role
     where m.account_id = p_account_id and m.user_id = p_user_id returning * into v_member;
    if v_old <> p_role then
        perform pgsaas.audit('member.role_changed', p_account_id,
            jsonb_build_object('user_id', p_user_id, 'old', v_old, 'new', p_role));
    end if;
    return query select v_member.account_id, v_member.user_id, v_member.member_role,
        v_member.created_at;
end $$;
comment on function pgsaas.set_member_role(uuid, text, text) is
    'Gives a member another role. Only owners (or the system) name or unname owners; the last '
    'owner of an organization stays (PT422). PT404, PT403, 22023. Audited.';

create or replace function pgsaas.remove_member(p_account_id uuid, p_user_id text) returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_manages(p_account_id, p_user_id, null);
    perform pgsaas.check_not_last_owner(p_account_id, p_user_id);
    delete from pgsaas.account_members m where m.account_id = p_account_id
        and m.user_id = p_user_id;
    if not found then
        return false;
    end if;
    perform pgsaas.audit('member.removed', p_account_id, jsonb_build_object('user_id', p_user_id));
    return true;
end $$;
comment on function pgsaas.remove_member(uuid, text) is
    'Removes a member; false if there was none. Members may leave by themselves. Only owners (or '
    'the system) remove owners; the last owner of an organization stays (PT422). PT404, PT403. '
    'Audited.';
