-- Privileges: the whole matrix. What is not here nobody has, PUBLIC least of all; whatever somebody
-- else granted (default privileges of the host, a hasty grant by hand) is revoked by every load.
-- Hosts give their own roles membership in these roles, never privileges on these objects.
--
-- Readers run with their own rights, so they also need what readers call (the third list). Only
-- differences are executed: an unchanged matrix writes nothing.

do $$
declare
    v_change record;
begin
    perform set_config('search_path', '', true);
    create temp table wanted_privileges on commit drop as
    select 'function' as kind, f.oid as object, 0 as attnum, ('pgsaas_' || r.role)::regrole::oid
        as grantee, 'EXECUTE' as privilege
      from (values
          -- the backend
          ('app', 'create_account update_account add_member set_member_role remove_member'),
          ('app', 'lock_accounts deduct_credits deduct_credits_batch add_credits refund_credits'),
          ('app', 'revoke_grant transfer_credits'),
          ('app', 'hold_credits extend_hold capture_hold release_hold'),
          ('app user', 'act_as'),
          -- backend and staff
          ('app admin', 'freeze_account unfreeze_account export_account erase_account'),
          ('app admin', 'set_burn_order set_low_balance_at verify_ledger'),
          ('admin', 'adjust_credits set_overdraft_limit set_setting acts_as_admin'),
          -- everybody reads
          ('app user admin', 'now current_user_id my_account_ids my_role account_id_for'),
          ('app user admin', 'get_balance balance_at list_transactions explain_deduction'),
          -- what readers, views and policies call with the reader's rights
          ('app user admin', 'acts_as_system read_claims transaction_stamp identity_realm'),
          ('app user admin', 'project_account plan_settlement grants_to_settle new_row new_grant'),
          ('app user admin', 'source_rank period_end exact_interval free_by_source'),
          ('app user admin', 'row_allocations raise_not_found'))
          m (roles, functions)
     cross join lateral regexp_split_to_table(m.roles, '\s+') r (role)
     cross join lateral regexp_split_to_table(m.functions, '\s+') n (name)
      left join pg_catalog.pg_proc f on f.proname = n.name and f.pronamespace
          = 'pgsaas'::regnamespace
    union all
    select 'table', ('pgsaas.' || n.name)::regclass, 0, ('pgsaas_' || r.role)::regrole, 'SELECT'
      from (values
          ('app user admin', 'accounts account_external_ids account_members account_balances'),
          ('app user admin', 'credit_balances credit_grants open_credit_grants credit_holds'),
          ('app user admin', 'credit_transactions credit_checkpoints'),
          ('app admin', 'settings'),
          ('admin', 'audit_events outbox_messages'))
          m (roles, relations)
     cross join lateral regexp_split_to_table(m.roles, '\s+') r (role)
     cross join lateral regexp_split_to_table(m.relations, '\s+') n (name)
    union all    -- not its salt
    select 'column', a.attrelid, a.attnum, ('pgsaas_' || r.role)::regrole, 'SELECT'
      from pg_catalog.pg_attribute a cross join (values ('app'), ('admin')) r (role)
     where a.attrelid = 'pgsaas.installation'::regclass and a.attnum > 0 and not a.attisdropped
         and a.attname <> 'salt'
    union all
    select 'schema', 'pgsaas'::regnamespace, 0, ('pgsaas_' || r.role)::regrole, 'USAGE'
      from (values ('app'), ('user'), ('admin'), ('webhook'), ('runner')) r (role);
    for v_change in
        with actual as (
            select 'function' as kind, p.oid as object, 0 as attnum, a.grantee,
                a.privilege_type as privilege, p.proowner as owner
              from pg_catalog.pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f',
                  p.proowner))) a
             where p.pronamespace = 'pgsaas'::regnamespace
            union all
            select case when c.relkind = 'S' then 'sequence' else 'table' end, c.oid, 0, a.grantee,
                a.privilege_type, c.relowner
              from pg_catalog.pg_class c, aclexplode(c.relacl) a
             where c.relnamespace = 'pgsaas'::regnamespace and c.relkind in ('r', 'v', 'm', 'p',
                 'f', 'S')
            union all
            select 'column', c.oid, t.attnum, a.grantee, a.privilege_type, c.relowner
              from pg_catalog.pg_class c join pg_catalog.pg_attribute t on t.attrelid = c.oid,
                  aclexplode(t.attacl) a
             where c.relnamespace = 'pgsaas'::regnamespace
            union all
            select 'schema', n.oid, 0, a.grantee, a.privilege_type, n.nspowner
              from pg_catalog.pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'pgsaas'),
        change as (
            select 'revoke' as verb, a.kind, a.object, a.attnum, a.grantee,
                a.privilege from actual a
             where a.grantee <> a.owner and not exists (
                   select from pg_temp.wanted_privileges w where (w.kind, w.object, w.attnum,
                       w.grantee, w.privilege)
                        = (a.kind, a.object, a.attnum, a.grantee, a.privilege))
            union
            select 'grant', w.* from pg_temp.wanted_privileges w where not exists (
                   select from actual a where (w.kind, w.object, w.attnum, w.grantee, w.privilege)
                        = (a.kind, a.object, a.attnum, a.grantee, a.privilege)))
        select format('%s %s%s on %s %s %s %s%s', c.verb, c.privilege,
                   case when c.kind = 'column' then format(' (%I)',
                       (select t.attname from pg_catalog.pg_attribute t
                        where t.attrelid = c.object and t.attnum = c.attnum)) else '' end,
                   case when c.kind = 'column' then 'table' else c.kind end,
                   case c.kind when 'function' then c.object::regprocedure::text when 'schema'
                       then 'pgsaas'
                        else c.object::regclass::text end,
                   case c.verb when 'grant' then 'to' else 'from' end,
                   case when c.grantee = 0 then 'public' else c.grantee::regrole::text end,
                   case c.verb when 'revoke' then ' cascade' else '' end) as statement
          from change c
         order by c.verb desc, c.kind, c.object, c.grantee
    loop
        execute v_change.statement;
    end loop;
end $$;
