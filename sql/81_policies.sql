-- Row security: the whole matrix. Nobody but the owner's functions writes; these are the readers.
--
-- * user sees the rows of accounts that the user of the claims owns or is a member of.
-- * app sees the same while a user's claims are set, everything while it acts as the system.
-- * admin sees everything, with claims only where they name a platform admin.
--
-- `= any (stable function)` is an index condition: the function runs once a query, not once a row.
-- A policy that queried account_members itself would recurse into that table's own policy. No
-- subqueries: a distributed table cannot have them. The texts below are written as the catalogue
-- prints them, because a policy is replaced only where its text differs: dropping one waits for
-- every open charge and makes all tenants wait behind it.

do $$
declare
    v_mine constant text := '(account_id = ANY (pgsaas.my_account_ids()))';
    v_app constant text :=
        '(pgsaas.acts_as_system() OR (account_id = ANY (pgsaas.my_account_ids())))';
    v_all constant text := 'true';
    v_system constant text := 'pgsaas.acts_as_system()';
    v_admin constant text := 'pgsaas.acts_as_admin()';
    v_wanted record;
    v_is text;
begin
    perform set_config('search_path', '', true);
    for v_wanted in
        select c.relname from pg_catalog.pg_class c
         where c.relnamespace = 'pgsaas'::regnamespace and c.relkind in ('r', 'p')
           and not c.relrowsecurity and c.relname !~ 'yoyo'
    loop    -- somebody switched it off
        execute format('alter table pgsaas.%I enable row level security', v_wanted.relname);
    end loop;
    for v_wanted in
        select m.relation, p.reader, m.relation || '_' || p.reader as name, p.expression
          from (values
              ('accounts',              v_mine, v_app,    v_admin),
              ('account_external_ids',  v_mine, v_app,    v_admin),
              ('account_members',       v_mine, v_app,    v_admin),
              ('account_balances',      v_mine, v_app,    v_admin),
              ('credit_grants',         v_mine, v_app,    v_admin),
              ('credit_holds',          v_mine, v_app,    v_admin),
              ('credit_debts',          v_mine, v_app,    v_admin),
              ('credit_transactions',   v_mine, v_app,    v_admin),
              ('credit_checkpoints',    v_mine, v_app,    v_admin),
              ('usage_records',         v_mine, v_app,    v_admin),
              ('usage_periods',         v_mine, v_app,    v_admin),
              ('daily_usage_stats',     v_mine, v_app,    v_admin),
              ('usage_rollups',         v_mine, v_app,    v_admin),
              ('credit_events',         v_all,  v_all,    v_admin),
              ('credit_prices',         v_all,  v_all,    v_admin),
              ('subscriptions',         v_mine, v_app,    v_admin),
              ('entitlement_overrides', v_mine, v_app,    v_admin),
              ('entitlement_usage',     v_mine, v_app,    v_admin),
              ('spend_caps',            v_mine, v_app,    v_admin),
              ('jobs',                  v_mine, v_app,    v_admin),
              ('redemptions',           v_mine, v_app,    v_admin),
              ('referrals',             v_mine, v_app,    v_admin),
              ('rewards',               null,   v_system, v_admin),
              ('plans',                 v_all,  v_all,    v_admin),
              ('plan_versions',         v_all,  v_all,    v_admin),
              ('plan_prices',           v_all,  v_all,    v_admin),
              ('credit_products',       v_all,  v_all,    v_admin),
              ('agents',                v_all,  v_all,    v_admin),
              ('settings',              null,   v_system, v_admin),
              ('runners',               null,   v_system, v_admin),
              ('installation',          null,   v_system, v_admin),
              ('audit_events',          null,   null,     v_admin),
              ('outbox_messages',       null,   null,     v_admin))
              m (relation, for_user, for_app, for_admin)
         cross join lateral (values ('user', m.for_user), ('app', m.for_app), ('admin',
             m.for_admin))
              p (reader, expression)
         where p.expression is not null
    loop
        select concat_ws(' ', p.permissive, p.cmd, p.roles[1], cardinality(p.roles), p.qual,
            p.with_check) into v_is
          from pg_catalog.pg_policies p
         where p.schemaname = 'pgsaas' and p.tablename = v_wanted.relation
             and p.policyname = v_wanted.name;
        if v_is is distinct from concat_ws(' ', 'PERMISSIVE', 'SELECT',
            'pgsaas_' || v_wanted.reader, 1, v_wanted.expression) then
            if v_is is not null then
                execute format('drop policy %I on pgsaas.%I', v_wanted.name, v_wanted.relation);
            end if;
            execute format('create policy %I on pgsaas.%I for select to %I using (%s)',
                v_wanted.name, v_wanted.relation,
                'pgsaas_' || v_wanted.reader, v_wanted.expression);
        end if;
        insert into pg_temp.pgsaas_declared (kind, name, relation) values ('policy', v_wanted.name,
            v_wanted.relation);
    end loop;
end $$;
