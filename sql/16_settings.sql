-- Settings and staff: what an operator decides for the whole installation.
--
-- One typed row, so that a setting of the wrong kind cannot be stored; its checks are the table's
-- own. Every change is audited with the old and the new value. Nothing hot reads this table. Lock
-- rule: the row of settings, nothing else.

create or replace function pgsaas.set_setting(p_name text, p_value text, p_reason text default null)
returns text
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_type text;
    v_old text;
    v_new text;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    if p_name = 'identity_realm'
       and not pg_has_role(pgsaas.effective_role(), 'pgsaas_owner', 'member') then
        raise exception 'only the owner changes whose ids count as users' using errcode = 'PT403';
    end if;
    select format_type(a.atttypid, a.atttypmod) into v_type
      from pg_catalog.pg_attribute a
     where a.attrelid = 'pgsaas.settings'::regclass and a.attname = p_name and a.attnum > 0
       and not a.attisdropped and a.attname <> 'is_only_row';
    if not found then
        raise exception 'no setting "%"', p_name using errcode = '22023', hint = (
            select 'Settings are ' || string_agg(a.attname, ', ' order by a.attnum) || '.'
              from pg_catalog.pg_attribute a
             where a.attrelid = 'pgsaas.settings'::regclass and a.attnum > 1
                 and not a.attisdropped);
    end if;
    -- the row lock first: two changes of one setting leave two true audit events
    execute format('select s.%I::text from pgsaas.settings s for no key update', p_name) into v_old;
    begin
        execute format('update pgsaas.settings s set %I = cast($1 as %s) returning s.%1$I::text',
            p_name, v_type)
            into v_new using p_value;
    exception when data_exception or integrity_constraint_violation then
        raise exception 'setting "%" cannot be "%"', p_name, p_value using errcode = '22023',
            detail = sqlerrm;
    end;
    perform pgsaas.audit('setting.changed', null, jsonb_build_object('setting', p_name, 'old',
        v_old,
        'new', v_new, 'reason', p_reason));
    return v_new;
end $$;
comment on function pgsaas.set_setting(text, text, text) is
    'Changes a setting (a column of pgsaas.settings) and returns it as stored; null where it means '
    '"no limit" or "none". 22023 for an unknown setting or a value it cannot take. Audited.';

create or replace function pgsaas.is_shadow() returns boolean
language sql stable
as $$ select s.shadow from pgsaas.settings s $$;
comment on function pgsaas.is_shadow() is
    'Whether charges beyond what is available are owed instead of refused. Asked only where one '
    'would be refused.';

create or replace function pgsaas.add_platform_admin(p_user_id text, p_reason text default null)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    if p_user_id is null or octet_length(p_user_id) not between 1 and 255 then
        raise exception 'a user id has 1 to 255 bytes' using errcode = '22023';
    end if;
    perform pgsaas.check_request(null, null, p_reason);
    insert into pgsaas.platform_admins (user_id, added_at) values (p_user_id, pgsaas.now())
    on conflict do nothing;
    if not found then
        return false;
    end if;
    perform pgsaas.audit('platform_admin.added', null, jsonb_build_object('user_id', p_user_id,
        'reason', p_reason));
    return true;
end $$;
comment on function pgsaas.add_platform_admin(text, text) is
    'Makes this user''s claims count under the role pgsaas_admin; false if they did already. Owner '
    'only. Audited.';

create or replace function pgsaas.remove_platform_admin(p_user_id text, p_reason text default null)
returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_request(null, null, p_reason);
    delete from pgsaas.platform_admins p where p.user_id = p_user_id;
    if not found then
        return false;
    end if;
    perform pgsaas.audit('platform_admin.removed', null, jsonb_build_object('user_id', p_user_id,
        'reason', p_reason));
    return true;
end $$;
comment on function pgsaas.remove_platform_admin(text, text) is
    'Takes that away again; false if there was nothing to take. Owner only. Audited.';
