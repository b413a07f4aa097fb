-- Identity: who is calling, and what that user may do to an account.
--
-- A caller is the system or a user. A user is known by transaction-local `request.jwt.claims` with
-- a `sub` (PostgREST, Supabase) or by act_as(), which stamps its transaction: a setting that a
-- pooled session kept from an earlier one carries another stamp and counts for nothing. Two sources
-- that differ mean nobody. Without any user the backend's role acts as the system. Claims without a
-- `sub` are the system only where their `role` is the database role in force and a member of
-- pgsaas_app (Supabase's service key).
--
-- No claim grants anything: roles come from account_members, staff from platform_admins, which only
-- the owner's functions write. A user account belongs to the user whose id is its external id in
-- the realm settings.identity_realm, or, when that realm has no such id, whose id is its account_id
-- and it has no external id: so nobody can claim an account by choosing a name that looks like its
-- account_id.
--
-- EXECUTE privileges decide who may call at all (82_privileges); the claims only narrow.

create or replace function pgsaas.transaction_stamp() returns text
language sql stable parallel restricted
as $$ select pg_catalog.pg_backend_pid() || '/' || extract(epoch
    from pg_catalog.transaction_timestamp()) $$;
comment on function pgsaas.transaction_stamp() is
    'Names this transaction: its backend and its start. Not a clock; needs no transaction id, so '
    'it works on a replica.';

create or replace function pgsaas.effective_role() returns name
language sql stable parallel restricted
as $$ select coalesce(nullif(pg_catalog.current_setting('role'), 'none'), session_user)::name $$;
comment on function pgsaas.effective_role() is
    'The role the session acts in (SET ROLE, else the login), also seen from inside a definer.';

-- The user of this transaction, null for none; p_is_nobody where what was said cannot be believed.
create or replace function pgsaas.read_claims(out p_user_id text, out p_is_system boolean)
language plpgsql stable parallel restricted set search_path = ''
as $$
declare
    v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    v_actor text := current_setting('pgsaas.actor', true);
    v_stamp text := pgsaas.transaction_stamp() || ':';
    v_acting text;
begin
    if starts_with(v_actor, v_stamp) then
        v_acting := substr(v_actor, length(v_stamp) + 1);
    end if;
    p_is_system := false;
    if v_claims is null then
        p_user_id := v_acting;
        p_is_system := v_acting is null;
    elsif v_claims ? 'sub' then
        if jsonb_typeof(v_claims -> 'sub') in ('string', 'number') then
            p_user_id := nullif(v_claims ->> 'sub', '');
        end if;
        if p_user_id <> v_acting then
            p_user_id := null;
        end if;
    elsif v_acting is not null then
        p_user_id := v_acting;
    else
        -- current_setting('role') is 'none', which is no role, where nobody has set one
        p_is_system := v_claims ->> 'role' = nullif(current_setting('role'), 'none');
        if p_is_system then
            p_is_system := pg_has_role(current_setting('role')::name, 'pgsaas_app', 'member');
        end if;
        p_is_system := coalesce(p_is_system, false);
    end if;
end $$;
comment on function pgsaas.read_claims() is
    'The user this transaction acts for (null for none) and whether it acts as the system. 22P02 '
    'for claims that are no JSON.';

create or replace function pgsaas.act_as(p_user_id text) returns void
language plpgsql volatile parallel unsafe
as $$
begin
    if p_user_id is null or octet_length(p_user_id) not between 1 and 255 then
        raise exception 'a user id has 1 to 255 bytes' using errcode = '22023';
    end if;
    perform set_config('pgsaas.actor', pgsaas.transaction_stamp() || ':' || p_user_id, true);
end $$;
comment on function pgsaas.act_as(text) is
    'Acts as this user until the transaction ends. The backend''s word: it must know the user. '
    'Where request.jwt.claims names another user, the transaction acts for nobody. 22023 for an '
    'empty id.';

create or replace function pgsaas.current_user_id() returns text
language sql stable parallel restricted
as $$ select c.p_user_id from pgsaas.read_claims() c $$;
comment on function pgsaas.current_user_id() is
    'The user this transaction acts for, null for none.';

-- Inlined into policies and readers (so it has no subquery, which would prevent that), so its
-- operators are spelled out: the search path is the caller's.
create or replace function pgsaas.acts_as_system() returns boolean
language sql stable parallel restricted
as $$
    select case
           when pg_catalog.current_setting('request.jwt.claims', true) operator(pg_catalog.<>) ''
             or pg_catalog.current_setting('pgsaas.actor', true) operator(pg_catalog.<>) ''
           then (pgsaas.read_claims()).p_is_system else true end
$$;
comment on function pgsaas.acts_as_system() is
    'Whether this transaction acts for no user. Meaningful only for roles that may act as the '
    'system at all.';

create or replace function pgsaas.own_account_id(p_user_id text) returns uuid
language plpgsql stable parallel restricted
as $$
declare
    v_own uuid;
begin
    select x.account_id into v_own
      from pgsaas.account_external_ids x join pgsaas.settings s on s.identity_realm = x.realm
     where x.external_id = p_user_id;
    if not found and p_user_id ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' then
        select a.account_id into v_own from pgsaas.accounts a
         where a.account_id = p_user_id::uuid
           and not exists (
               select from pgsaas.account_external_ids x where x.account_id = a.account_id);
    end if;
    return (select a.account_id from pgsaas.accounts a
             where a.account_id = v_own and a.kind = 'user' and a.erased_at is null);
end $$;
comment on function pgsaas.own_account_id(text) is
    'The user account that belongs to this user, null for none.';

create or replace function pgsaas.my_account_ids() returns uuid[]
language plpgsql stable parallel restricted security definer set search_path = ''
as $$
declare
    v_user_id text := (select c.p_user_id from pgsaas.read_claims() c);
begin
    if v_user_id is null then
        return array[]::uuid[];
    end if;
    return array(
        select m.account_id from pgsaas.account_members m where m.user_id = v_user_id
        union
        select o.id from pgsaas.own_account_id(v_user_id) o (id) where o.id is not null);
end $$;
comment on function pgsaas.my_account_ids() is
    'The accounts that the user of this transaction owns or is a member of; empty without a user. '
    'What policies compare with.';

create or replace function pgsaas.my_role(p_account_id uuid) returns text
language plpgsql stable parallel restricted security definer set search_path = ''
as $$
declare
    v_user_id text := (select c.p_user_id from pgsaas.read_claims() c);
begin
    if p_account_id = pgsaas.own_account_id(v_user_id) then
        return 'owner';    -- whatever rows others wrote
    end if;
    return (select m.member_role from pgsaas.account_members m
             where m.account_id = p_account_id and m.user_id = v_user_id);
end $$;
comment on function pgsaas.my_role(uuid) is
    'The role of the user of this transaction in the account: owner, admin, billing, member, or '
    'null.';

create or replace function pgsaas.role_allows(p_role text, p_act text) returns boolean
language sql immutable parallel safe
as $$
    select case p_act
           when 'read' then p_role in ('owner', 'admin', 'billing', 'member')
           when 'spend' then p_role in ('owner', 'admin', 'member')
           when 'pay' then p_role in ('owner', 'admin', 'billing')
           when 'manage' then p_role in ('owner', 'admin')
           else false end
$$;
comment on function pgsaas.role_allows(text, text) is
    'Which member role may do what: read, spend, pay, manage. Everything else is the system''s.';

-- The check at the door of every definer. Without a user it costs two look-ups of a setting.
create or replace function pgsaas.may(p_account_id uuid, p_act text) returns boolean
language plpgsql stable parallel restricted
as $$
declare
    v_role text;
begin
    if pgsaas.acts_as_system() then
        return true;
    end if;
    v_role := pgsaas.my_role(p_account_id);
    if v_role is null then
        return false;
    end if;
    if not pgsaas.role_allows(v_role, p_act) then
        raise exception 'a member with the role "%" may not do this',
            v_role using errcode = 'PT403';
    end if;
    return true;
end $$;
comment on function pgsaas.may(uuid, text) is
    'Whether the caller may do this to the account: true, false where they may not even know of '
    'it; PT403 for a member whose role does not suffice.';

create or replace function pgsaas.acts_as_admin() returns boolean
language sql stable parallel restricted security definer set search_path = ''
as $$
    select pgsaas.acts_as_system()
        or exists (select from pgsaas.platform_admins p where p.user_id = pgsaas.current_user_id())
$$;
comment on function pgsaas.acts_as_admin() is
    'For pgsaas_admin: whether this transaction acts for no user, or for one in platform_admins.';

create or replace function pgsaas.may_administer() returns boolean
language sql stable parallel restricted
as $$
    select pgsaas.acts_as_system()
        or (pgsaas.acts_as_admin() and pg_catalog.pg_has_role(pgsaas.effective_role(),
            'pgsaas_admin', 'member'))
$$;
comment on function pgsaas.may_administer() is
    'Whether the caller is the system, or a platform admin who acts in the role pgsaas_admin.';

create or replace function pgsaas.check_administers() returns void
language plpgsql stable parallel restricted
as $$
begin
    if not pgsaas.may_administer() then
        raise exception 'only the system or an admin may do this' using errcode = 'PT403';
    end if;
end $$;
comment on function pgsaas.check_administers() is 'Raises PT403 unless may_administer().';

create or replace function pgsaas.check_system() returns void
language plpgsql stable parallel restricted
as $$
begin
    if not pgsaas.acts_as_system() then
        raise exception 'only the system may do this' using errcode = 'PT403';
    end if;
end $$;
comment on function pgsaas.check_system() is 'Raises PT403 for a user.';

create or replace function pgsaas.actor() returns text
language sql stable parallel restricted
as $$
    select coalesce('user:' || pgsaas.current_user_id() || ' ',
        '') || 'role:' || pgsaas.effective_role()
$$;
comment on function pgsaas.actor() is
    'Who is written into the audit log: the user of the claims, if any, and the database role.';
