-- Attachments: a host's users table whose every row has an account.
--
-- attach_users backfills first, which takes no lock on the table, then adds one trigger and looks
-- once more for rows that came in between: sign-ups wait for that short second look only. The
-- trigger survives the host's own migrations: it names no column (PostgreSQL would refuse to change
-- the type of a column that a trigger names); columns are remembered by number, so renaming one is
-- no matter, and by name, for a dump that was restored elsewhere, where numbers may differ. Where a
-- column is gone the trigger warns and lets the row in: billing must not stop a sign-up; `pgsaas
-- doctor` names the table, and attaching again heals it.
--
-- The realm of the external ids is the table's name when it was first attached, and stays when the
-- table is renamed. uuid ids become the account ids themselves where they are free. The first
-- attached table's realm becomes the realm of user ids (settings.identity_realm), unless accounts
-- with external ids exist already.

create or replace function pgsaas.attach_rows(p_realm text, p_ids text[], p_emails text[])
returns bigint
language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_new record;
    v_account_id uuid;
    v_count bigint := 0;
begin
    for v_new in
        select u.id, case when octet_length(u.email) <= 1000 then u.email end as email
          from unnest(p_ids, p_emails) u (id, email)
         where octet_length(u.id) between 1 and 255
    loop
        v_account_id := gen_random_uuid();
        if v_new.id ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$'
           and not exists (select from pgsaas.accounts a where a.account_id = v_new.id::uuid) then
            v_account_id := v_new.id::uuid;
        end if;
        insert into pgsaas.account_external_ids (realm, external_id, account_id)
        values (p_realm, v_new.id, v_account_id) on conflict do nothing;
        if not found then
            continue when exists (select from pgsaas.account_external_ids x
                where x.realm = p_realm and x.external_id = v_new.id);
            v_account_id := gen_random_uuid();    -- that one was named otherwise at this moment
            insert into pgsaas.account_external_ids (realm, external_id, account_id)
            values (p_realm, v_new.id, v_account_id) on conflict (realm, external_id) do nothing;
            continue when not found;
        end if;
        insert into pgsaas.accounts (account_id, kind, email, created_at)
        values (v_account_id, 'user', v_new.email, pgsaas.now()) on conflict do nothing;
        if not found then    -- somebody created an account of that very id at the same moment
            update pgsaas.account_external_ids x set account_id = gen_random_uuid()
             where x.realm = p_realm and x.external_id = v_new.id
            returning x.account_id into v_account_id;
            insert into pgsaas.accounts (account_id, kind, email, created_at)
            values (v_account_id, 'user', v_new.email, pgsaas.now());
        end if;
        perform pgsaas.open_account(v_account_id, p_realm, v_new.id, v_new.email);
        v_count := v_count + 1;
    end loop;
    return v_count;
end $$;
comment on function pgsaas.attach_rows(text, text[], text[]) is
    'Gives each of these ids of a realm an account, unless it has one; returns how many are new.';

-- Which columns of the attached table hold the id and the address, by their present names. Numbers
-- count for the very table that was attached; elsewhere (a restored dump, a partition) names do.
create or replace function pgsaas.attached_columns(p_realm text, p_table oid, out p_id name,
    out p_email name)
language sql stable security definer set search_path = ''
as $$
    select max(c.attname) filter (where c.attnum = a.id_attnum and a.relation_oid = p_table
               or c.attname = a.id_column and a.relation_oid <> p_table),
           max(c.attname) filter (where c.attnum = a.email_attnum and a.relation_oid = p_table
               or c.attname = a.email_column and a.relation_oid <> p_table)
      from pgsaas.attachments a
      join pg_catalog.pg_attribute c on c.attrelid = p_table and c.attnum > 0 and not c.attisdropped
     where a.realm = p_realm
$$;
comment on function pgsaas.attached_columns(text, oid) is
    'The present names of the id and address columns of an attached table.';

create or replace function pgsaas.attached_row() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    v_columns record;
    v_read text;
    v_id text;
    v_email text;
    v_old_id text;
    v_old_email text;
begin
    select * into v_columns from pgsaas.attached_columns(tg_argv[0],
        coalesce(pg_partition_root(tg_relid), tg_relid));
    if v_columns.p_id is null then
        raise warning 'pgsaas: % has lost its id column; attach it again', tg_relid::regclass;
        return null;
    end if;
    update pgsaas.attachments a set id_column = v_columns.p_id, email_column = v_columns.p_email
     where a.realm = tg_argv[0]
       and (a.id_column, a.email_column) is distinct from (v_columns.p_id, v_columns.p_email)
       and a.relation_oid = coalesce(pg_partition_root(tg_relid), tg_relid);
    -- These two columns alone, by their types' output functions (format), which only superusers can
    -- write: a cast that belongs to the table's owner would run here with the rights of our owner.
    v_read := format(
        'select case when ($1).%1$I is not null then format(''%%s'', ($1).%1$I) end, %2$s',
        v_columns.p_id, case when v_columns.p_email is null then 'null' else format(
            'case when ($1).%1$I is not null then format(''%%s'', ($1).%1$I) end',
            v_columns.p_email) end);
    execute v_read into v_id, v_email using new;
    if tg_op = 'UPDATE' then
        execute v_read into v_old_id, v_old_email using old;
        if v_id is not distinct from v_old_id and v_email is not distinct from v_old_email then
            return null;
        end if;
        if v_id <> v_old_id and octet_length(v_id) between 1 and 255 then
            if exists (select from pgsaas.account_external_ids x
                        where x.realm = tg_argv[0] and x.external_id = v_id) then
                raise exception 'id "%" still names another account', v_id using errcode = 'PT409',
                    hint = 'Erase that account first: its credits are not those of this user.';
            end if;
            update pgsaas.account_external_ids x set external_id = v_id
             where x.realm = tg_argv[0] and x.external_id = v_old_id;
        end if;
        update pgsaas.accounts a set email = v_email
          from pgsaas.account_external_ids x
         where x.realm = tg_argv[0] and x.external_id = v_id and a.account_id = x.account_id
           and v_columns.p_email is not null
           and coalesce(octet_length(v_email) <= 1000, true);
    end if;
    perform pgsaas.attach_rows(tg_argv[0], array[v_id], array[v_email]);
    return null;
end $$;
comment on function pgsaas.attached_row() is
    'Trigger of an attached table: a new row gets an account, a changed id or address is followed.';

create or replace function pgsaas.attach_users(
    p_table regclass, p_id text default 'id', p_email text default null,
        p_limit integer default null)
returns table (realm text, attached bigint, remaining bigint)
language plpgsql volatile set search_path = '' set row_security = off
as $$
#variable_conflict use_column
declare
    v_realm text;
    v_id_attnum smallint;
    v_email_attnum smallint;
    v_ids text[];
    v_emails text[];
    v_query text;
    v_addresses text;
    v_is_attached boolean;
    v_email_before smallint;
begin
    perform pgsaas.check_limit(p_limit);
    if (select c.relkind not in ('r', 'p') from pg_catalog.pg_class c where c.oid = p_table) then
        raise exception '% is no table', p_table using errcode = '22023',
            hint = 'Attach the table that holds the users.';
    end if;
    select a.attnum into v_id_attnum from pg_catalog.pg_attribute a
     where a.attrelid = p_table and a.attname = p_id and a.attnum > 0 and not a.attisdropped;
    select a.attnum into v_email_attnum from pg_catalog.pg_attribute a
     where a.attrelid = p_table and a.attname = p_email and a.attnum > 0 and not a.attisdropped;
    if v_id_attnum is null or (p_email is not null and v_email_attnum is null) then
        raise exception 'table % has no column "%"', p_table, case when v_id_attnum is null
            then p_id else p_email end
            using errcode = '22023';
    elsif not exists (
            with recursive types (oid) as (
                select a.atttypid from pg_catalog.pg_attribute a
                 where a.attrelid = p_table and a.attnum = v_id_attnum
                union all
                select t.typbasetype from types b join pg_catalog.pg_type t on t.oid = b.oid
                 where t.typtype = 'd')
            select from types b join pg_catalog.pg_type t on t.oid = b.oid
             where t.oid in ('uuid'::regtype, 'smallint'::regtype, 'integer'::regtype,
                       'bigint'::regtype, 'numeric'::regtype)
                or t.typtype <> 'd' and t.typcategory = 'S' and t.typname <> 'bpchar') then
        raise exception 'column "%" of % is no uuid, integer or text: as an id its text would '
            'depend on settings', p_id, p_table using errcode = '22023';
    elsif not exists (
            select from pg_catalog.pg_index i
             where i.indrelid = p_table and i.indisunique and i.indpred is null
                 and i.indnkeyatts = 1
               and i.indkey[0] = v_id_attnum) then
        raise exception 'column "%" of % is not unique: it cannot tell users apart', p_id, p_table
            using errcode = '22023';
    end if;
    select a.realm, a.email_attnum into v_realm, v_email_before
      from pgsaas.attachments a where a.relation = p_table
        for no key update;
    v_is_attached := found;
    if v_realm is null then
        select format('%I.%I', n.nspname, c.relname) into v_realm
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              where c.oid = p_table;
    end if;
    if exists (select from pgsaas.attachments a
                 join pg_catalog.pg_class c on c.oid = a.relation
                where a.realm = v_realm and a.relation <> p_table) then
        raise exception 'the realm "%" belongs to another attached table', v_realm
            using errcode = 'PT409',
                hint = 'Detach that table first, if its ids are the same people.';
    elsif exists (select from pgsaas.attachments a
                    join pg_catalog.pg_attribute c
                      on c.attrelid = p_table and c.attnum = a.id_attnum and not c.attisdropped
                   where a.realm = v_realm and a.relation_oid = p_table
                     and a.id_attnum <> v_id_attnum) then
        raise exception 'table % is attached by another column', p_table
            using errcode = 'PT409', hint = 'Detach it first.';
    end if;
    v_query := format($query$
        select array_agg(s.id), array_agg(s.email) from (
            select format('%%s', t.%1$I) as id, %2$s as email from %3$s t
             where octet_length(format('%%s', t.%1$I)) between 1 and 255 and not exists (
                   select from pgsaas.account_external_ids x
                    where x.realm = $1 and x.external_id = format('%%s', t.%1$I))
             limit $2) s $query$,
        p_id, case when p_email is null then 'null::text' else format(
            $email$case when t.%1$I is not null then format('%%s', t.%1$I) end$email$, p_email) end,
        p_table);
    attached := 0;
    loop
        execute v_query into v_ids, v_emails
            using v_realm, greatest(1, least(10000, p_limit - attached));
        exit when v_ids is null or attached >= p_limit;
        attached := attached + pgsaas.attach_rows(v_realm, v_ids, v_emails);
    end loop;
    -- accounts that were there before their table, or this column of it, was attached
    if v_email_attnum is not null and v_email_attnum is distinct from v_email_before then
        v_addresses := format($query$
            update pgsaas.accounts a set email = s.email
              from %1$s t
             cross join lateral (select case when octet_length(format('%%s', t.%2$I)) <= 1000
                 and t.%2$I is not null then format('%%s', t.%2$I) end) s (email)
              join pgsaas.account_external_ids x
                on x.realm = $1 and x.external_id = format('%%s', t.%3$I)
             where a.account_id = x.account_id and a.email is distinct from s.email $query$,
            p_table, p_email, p_id);
    end if;
    if v_ids is null then
        insert into pgsaas.attachments as a (realm, relation, relation_oid, id_column, id_attnum,
            email_column, email_attnum,
            attached_at)
        values (v_realm, p_table, p_table::oid, p_id, v_id_attnum, p_email, v_email_attnum,
            pgsaas.now())
        on conflict (realm) do update
           set relation = excluded.relation, relation_oid = excluded.relation_oid,
               id_column = excluded.id_column,
               id_attnum = excluded.id_attnum,
               -- attached again without an address column, it keeps the one it has
               email_column = coalesce(excluded.email_column, a.email_column),
               email_attnum = coalesce(excluded.email_attnum, a.email_attnum);
        if not exists (select from pg_catalog.pg_trigger t
                        where t.tgrelid = p_table and t.tgname = 'pgsaas_attached_row') then
            execute format('create trigger pgsaas_attached_row after insert or update on %s
                for each row execute function pgsaas.attached_row(%L)', p_table, v_realm);
        end if;
        loop    -- rows that came while nobody listened; the trigger's lock keeps further ones out
            execute v_query into v_ids, v_emails using v_realm, 10000;
            exit when v_ids is null;
            attached := attached + pgsaas.attach_rows(v_realm, v_ids, v_emails);
        end loop;
        if v_addresses is not null then    -- no sign-up may hold an account that waits for us
            execute format('lock table %s in share row exclusive mode', p_table);
            execute v_addresses using v_realm;
        end if;
        if not v_is_attached then
            update pgsaas.settings s set identity_realm = v_realm
             where s.identity_realm = '' and not exists (
                   select from pgsaas.account_external_ids x where x.realm = '');
            if found then
                perform pgsaas.audit('setting.changed', null, jsonb_build_object(
                    'setting', 'identity_realm', 'old', '', 'new', v_realm,
                    'reason', 'the first attached table'));
            end if;
            perform pgsaas.audit('table.attached', null, jsonb_build_object('table', p_table::text,
                'realm', v_realm));
        end if;
        remaining := 0;
    else
        execute format($query$
            select count(*) from %2$s t
             where octet_length(format('%%s', t.%1$I)) between 1 and 255 and not exists (
                   select from pgsaas.account_external_ids x
                    where x.realm = %3$L and x.external_id = format('%%s', t.%1$I)) $query$,
            p_id, p_table, v_realm) into remaining;
    end if;
    realm := v_realm;
    return next;
end $$;
comment on function pgsaas.attach_users(regclass, text, text, integer) is
    'Gives every row of a host''s users table an account, now and, by a trigger, from now on. p_id '
    'is its unique id (uuid, an integer or text; a uuid becomes the account id where it is free), '
    'p_email a column to keep as the address: naming one, or another than before, writes it into '
    'the accounts that are there. With p_limit at most so many per call and no trigger until none '
    'remain: call again. Repeating changes nothing. Run as owner of the table and member of '
    'pgsaas_owner. 22023 for an unknown or not unique column, another type, or a limit below 1; '
    '42501 where row security would hide rows.';

create or replace function pgsaas.detach_users(p_table regclass) returns boolean
language plpgsql volatile set search_path = ''
as $$
begin
    execute format('drop trigger if exists pgsaas_attached_row on %s', p_table);
    delete from pgsaas.attachments a where a.relation = p_table;
    if not found then
        return false;
    end if;
    perform pgsaas.audit('table.detached', null, jsonb_build_object('table', p_table::text));
    return true;
end $$;
comment on function pgsaas.detach_users(regclass) is
    'Stops giving accounts to new rows of an attached table; the accounts there are stay. False if '
    'it was not attached.';
