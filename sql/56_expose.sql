-- Wrappers in a schema of the host's, for those who call unqualified.
--
-- They have the names and parameters that older systems use (Supabase RPC:
-- deduct_credits(p_user_id, …)) and are invokers of one statement each: privileges, claims and
-- answers are those of the functions they call. Their comment marks them, so that uninstalling
-- finds them. Only the backend's role may execute them. No locks of their own.

create or replace function pgsaas.expose(p_schema text default 'public') returns setof text
language plpgsql volatile set search_path = ''
as $expose$
declare
    v_wrapper record;
    v_name text;
    v_oid oid;
    v_grantee text;
begin
    for v_wrapper in
        select * from (values
            ('deduct_credits', 'uuid, numeric, uuid, text, text',
                $$(p_user_id uuid, p_amount numeric, p_job_id uuid default null,
                   p_agent_id text default null, p_description text default null)
                returns table (success boolean, new_balance numeric, error_message text)$$,
                $$select r.success, r.new_balance, r.error_message from pgsaas.deduct_credits(
                    p_user_id, p_amount, p_job_id, p_agent_id, p_description) r$$),
            ('add_credits', 'uuid, numeric, text',
                $$(p_user_id uuid, p_amount numeric, p_description text default null)
                returns table (success boolean, new_balance numeric)$$,
                $$select r.success, r.new_balance from pgsaas.add_credits(
                    p_user_id, p_amount, p_description) r$$))
            w (name, types, signature, body)
    loop
        v_name := format('%I.%I(%s)', p_schema, v_wrapper.name, v_wrapper.types);
        v_oid := to_regprocedure(v_name);
        if v_oid is not null
           and (coalesce(obj_description(v_oid, 'pg_proc'), '') not like 'pgsaas wrapper%'
                or (select p.proowner from pg_proc p where p.oid = v_oid)
                    <> current_user::regrole) then
            raise exception '% exists and is not a wrapper of pgsaas made by %', v_name,
                current_user
                using errcode = 'PT409';
        end if;
        execute format('create or replace function %I.%I%s language sql volatile rows 1 as %L',
            p_schema, v_wrapper.name, v_wrapper.signature, v_wrapper.body);
        execute format('comment on function %s is %L', v_name,
            'pgsaas wrapper of pgsaas.' || v_wrapper.name);
        for v_grantee in
            select distinct case when a.grantee = 0 then 'public' else a.grantee::regrole::text end
              from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
             where p.oid = to_regprocedure(v_name) and a.grantee <> p.proowner
        loop
            execute format('revoke all on function %s from %s cascade', v_name, v_grantee);
        end loop;
        execute format('grant execute on function %s to pgsaas_app', v_name);
        return next v_name;
    end loop;
end $expose$;
comment on function pgsaas.expose(text) is
    'Writes (again) thin wrappers with unqualified, older names into a schema of the host, '
    'executable by pgsaas_app only; returns their signatures. PT409 if a function of another '
    'origin has the name.';
