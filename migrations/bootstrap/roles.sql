-- The bootstrap of pgsaas: six roles, their owner's membership, the schema. One transaction.
--
-- `pgsaas migrate` runs this when the schema is not there yet; `pgsaas migrate --roles-sql`
-- prints it for a DBA where the installing role may not create roles or schemas. It may be run
-- again: what is there and sound is left alone. It reads two settings:
--   pgsaas.installer     the login role that will run `pgsaas migrate` (default: this session's)
--   pgsaas.adopt_roles   `on` to use roles that exist already (default: refuse them)
-- The roles can not log in and have no attributes; a host grants them to its own login roles.
-- Roles belong to the whole cluster: two databases installing at once collide on pg_authid, the
-- loser's transaction is simply run again.
do $bootstrap$
declare
    v_roles constant text[] := array['pgsaas_owner', 'pgsaas_app', 'pgsaas_user',
        'pgsaas_webhook', 'pgsaas_admin', 'pgsaas_runner'];
    v_installer constant text :=
        coalesce(nullif(current_setting('pgsaas.installer', true), ''), session_user);
    v_adopt constant boolean :=
        coalesce(nullif(current_setting('pgsaas.adopt_roles', true), ''), 'off')::boolean;
    v_recent constant boolean := current_setting('server_version_num')::integer >= 160000;
    v_schema_owner text;
    v_found text;
    v_role text;
begin
    select pg_catalog.pg_get_userbyid(n.nspowner) into v_schema_owner
    from pg_catalog.pg_namespace n where n.nspname = 'pgsaas';
    if v_schema_owner <> 'pgsaas_owner' then
        raise exception 'schema pgsaas belongs to %, not to pgsaas_owner', v_schema_owner
            using errcode = 'PT409',
                hint = 'Rename that schema, or install into another database.';
    end if;

    select string_agg(r.rolname, ', ' order by r.rolname) into v_found
    from pg_catalog.pg_roles r where r.rolname = any (v_roles);
    if v_schema_owner is null and v_found is not null and not v_adopt then
        raise exception 'these roles exist already: %', v_found
            using errcode = 'PT409',
                hint = 'If they are those of pgsaas in another database of this cluster, '
                    || 'run `pgsaas migrate --adopt-roles`.';
    end if;

    select string_agg(r.rolname, ', ' order by r.rolname) into v_found
    from pg_catalog.pg_roles r
    where r.rolname = any (v_roles)
        and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication
            or r.rolbypassrls or (r.rolname = 'pgsaas_user' and r.rolcanlogin));
    if v_found is not null then
        raise exception 'these roles have attributes that pgsaas must not have: %', v_found
            using errcode = 'PT403',
                hint = 'None may be superuser, createrole, createdb, replication or bypassrls; '
                    || 'pgsaas_user may not log in.';
    end if;
    select string_agg(m.rolname || ' in ' || g.rolname, ', ' order by m.rolname, g.rolname)
    into v_found
    from pg_catalog.pg_roles m
    join pg_catalog.pg_roles g on g.rolname <> m.rolname and g.rolname = any (v_roles)
    where m.rolname = any (v_roles)
        and (m.rolname = 'pgsaas_user' or g.rolname = 'pgsaas_owner')
        and pg_catalog.pg_has_role(m.oid, g.oid, 'MEMBER');
    if v_found is not null then
        raise exception 'these roles are members of stronger ones: %', v_found
            using errcode = 'PT403', hint = 'Revoke these memberships.';
    end if;

    foreach v_role in array v_roles loop
        if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
            execute format('create role %I nologin', v_role);
        end if;
    end loop;

    -- The installer acts as pgsaas_owner; so does the role that runs this, to make the schema.
    -- A superuser may anyway. From 16 on CREATEROLE gives ADMIN, not the right to act as.
    foreach v_role in array array[v_installer, current_user::text] loop
        if exists (select from pg_catalog.pg_roles r where r.rolname = v_role and r.rolsuper)
        then
            continue;
        end if;
        if v_recent then
            if not pg_catalog.pg_has_role(v_role, 'pgsaas_owner', 'USAGE')
                or not pg_catalog.pg_has_role(v_role, 'pgsaas_owner', 'SET') then
                execute format('grant pgsaas_owner to %I with inherit true, set true', v_role);
            end if;
        elsif not pg_catalog.pg_has_role(v_role, 'pgsaas_owner', 'USAGE') then
            execute format('grant pgsaas_owner to %I', v_role);
        end if;
    end loop;

    if v_schema_owner is null then
        create schema pgsaas authorization pgsaas_owner;
    end if;
    -- A load keeps its list of triggers and policies in a temporary table.
    if not pg_catalog.has_database_privilege('pgsaas_owner', current_database(), 'TEMPORARY')
    then
        execute format('grant temporary on database %I to pgsaas_owner', current_database());
    end if;
end
$bootstrap$;
