-- Privileges: the whole matrix. What is not here nobody has, PUBLIC least of all; whatever somebody
-- else granted (default privileges of the host, a hasty grant by hand) is revoked by every load.
-- Hosts give their own roles membership in these roles, never privileges on these objects.
--
-- Readers run with their own rights, so they also need what readers call (the last lists). Only
-- differences are executed: an unchanged matrix writes nothing.

-- What a grant names: EXECUTE on function f(uuid), SELECT (version) on table pgsaas.installation.
create or replace function pg_temp.privilege_on(
    p_kind text, p_object oid, p_attnum integer, p_privilege text)
returns text
language sql stable
as $$
    select p_privilege || case p_kind
           when 'function' then format(' on routine %s', p_object::regprocedure)
           when 'schema' then ' on schema pgsaas'
           when 'column' then format(' (%I) on table %s', (select a.attname
                from pg_catalog.pg_attribute a where a.attrelid = p_object and a.attnum = p_attnum),
                p_object::regclass)
           else format(' on %s %s', p_kind, p_object::regclass) end
$$;

create or replace temp view given_privileges as
select x.kind, x.object, x.attnum, x.owner, a.grantor, a.grantee, a.privilege_type as privilege,
       a.is_grantable
  from (select 'function', p.oid, 0, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
          from pg_catalog.pg_proc p where p.pronamespace = 'pgsaas'::regnamespace
        union all
        select case c.relkind when 'S' then 'sequence' else 'table' end, c.oid, 0, c.relowner,
            c.relacl
          from pg_catalog.pg_class c
         where c.relnamespace = 'pgsaas'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f',
             'S')
        union all
        select 'column', c.oid, t.attnum, c.relowner, t.attacl
          from pg_catalog.pg_class c join pg_catalog.pg_attribute t on t.attrelid = c.oid
         where c.relnamespace = 'pgsaas'::regnamespace
        union all
        select 'schema', n.oid, 0, n.nspowner, n.nspacl
          from pg_catalog.pg_namespace n where n.nspname = 'pgsaas') x (kind, object, attnum,
              owner, acl),
       aclexplode(x.acl) a;

do $$
declare
    v_change record;
    v_is_loose boolean := true;
begin
    perform set_config('search_path', '', true);
    create temp table wanted_privileges on commit drop as
    select 'function' as kind, f.oid as object, 0 as attnum,
           ('pgsaas_' || r.role)::regrole::oid as grantee, 'EXECUTE' as privilege
      from (values
          -- the backend
          ('app', 'create_account update_account add_member set_member_role remove_member'),
          ('app', 'lock_accounts deduct_credits deduct_credits_batch add_credits refund_credits'),
          ('app', 'revoke_grant transfer_credits'),
          ('app', 'hold_credits extend_hold capture_hold release_hold'),
          ('app', 'record_usage record_usage_batch consume_credits capture_usage'),
          ('app', 'check_and_deduct_credits'),
          ('app', 'reset_monthly_credits run_due run_all_due note_run'),
          ('app', 'use_entitlement take_rate_limit set_spend_cap'),
          ('app', 'start_job complete_job fail_job'),
          ('app', 'redeem_code get_referral_code set_referrer reward_referral'),
          ('app admin', 'set_entitlement'),
          ('app user admin', 'check_entitlement has_feature authorize_agent'),
          ('app user admin', 'list_jobs job_stats list_spend_caps'),
          ('app admin', 'due_tasks late_schedule'),
          ('app', 'start_subscription change_plan cancel_subscription resume_subscription'),
          ('app user', 'act_as'),
          -- backend and staff
          ('app admin', 'freeze_account unfreeze_account export_account erase_account'),
          ('app admin', 'set_subscription_status migrate_subscribers assign_default_plan'),
          ('app admin', 'set_burn_order set_low_balance_at verify_ledger'),
          ('admin', 'adjust_credits set_overdraft_limit set_setting acts_as_admin'),
          ('admin', 'set_credit_event set_plan retire_plan set_credit_product set_agent'),
          ('admin', 'set_reward'),
          -- everybody reads
          ('app user admin', 'now current_user_id my_account_ids my_role account_id_for'),
          ('app user admin', 'price_usage price_usage_batch get_credit_cost'),
          ('app user admin', 'calculate_query_cost query_cost get_usage_stats'),
          ('app user admin', 'list_plans list_credit_products list_agents get_monthly_credits'),
          ('app user admin', 'export_catalog length_text price_terms limit_terms'),
          ('app user admin', 'get_subscription preview_change_plan next_period'),
          ('app user admin', 'get_balance balance_at list_transactions explain_deduction'),
          -- what readers, views and policies call with the reader's rights
          ('app user admin', 'acts_as_system read_claims transaction_stamp identity_realm'),
          ('app user admin', 'project_account plan_settlement grants_to_settle new_row new_grant'),
          ('app user admin', 'expired_grant hand_on admitted_grant due_events end_period'),
          ('app user admin', 'return_part return_parts cancel_debt pay debts_to_settle'),
          ('app user admin', 'source_rank period_end exact_interval free_by_source'),
          ('app user admin', 'row_allocations raise_not_found months_since gives_access'),
          ('app user admin', 'project_subscription subscription_period'),
          ('app user admin', 'default_subscription default_plan'),
          ('app user admin', 'due_at ends_at grace_ends_at ended_in'))
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
          ('app user admin', 'credit_debts credit_events credit_prices usage_records'),
          ('app user admin', 'plans plan_versions plan_prices credit_products agents'),
          ('app user admin', 'subscription_plans subscriptions current_subscriptions'),
          ('app user admin', 'entitlement_overrides entitlement_usage spend_caps'),
          ('app user admin', 'jobs current_jobs redemptions referrals'),
          ('app user admin', 'usage_periods daily_usage_stats usage_rollups'),
          ('app user admin', 'open_credit_holds credit_transactions credit_checkpoints'),
          ('app admin', 'settings runners rewards'),
          ('admin', 'audit_events outbox_messages'))
          m (roles, relations)
     cross join lateral regexp_split_to_table(m.roles, '\s+') r (role)
     cross join lateral regexp_split_to_table(m.relations, '\s+') n (name)
    union all    -- not its salt
    select 'column', a.attrelid, a.attnum, ('pgsaas_' || r.role)::regrole, 'SELECT'
      from pg_catalog.pg_attribute a cross join (values ('app'), ('admin')) r (role)
     where a.attrelid = 'pgsaas.installation'::regclass and a.attnum > 0 and not a.attisdropped
         and a.attname <> 'salt'
    union all    -- what foreign keys of the host's own tables name
    select 'column', a.attrelid, a.attnum, 'pgsaas_app'::regrole, 'REFERENCES'
      from pg_catalog.pg_attribute a
     where (a.attrelid, a.attname) in (('pgsaas.accounts'::regclass, 'account_id'),
               ('pgsaas.usage_records'::regclass, 'account_id'),
               ('pgsaas.usage_records'::regclass, 'usage_id'))
    union all
    select 'schema', 'pgsaas'::regnamespace, 0, ('pgsaas_' || r.role)::regrole, 'USAGE'
      from (values ('app'), ('user'), ('admin'), ('webhook'), ('runner')) r (role);
    -- What a grantee passed on is out of the owner's reach while it stands on its own: the owner
    -- gives that grantee the right to grant and takes it back with all that hangs on it, until none
    -- is left.
    while v_is_loose loop
        v_is_loose := false;
        for v_change in
            select pg_temp.privilege_on(g.kind, g.object, g.attnum, g.privilege) as what,
                   h.holder::regrole::text as holder
              from pg_temp.given_privileges g
             cross join lateral (values (g.grantor, true), (g.grantee, g.is_grantable))
                   h (holder, passes_on)
             where h.passes_on and h.holder <> g.owner
             group by 1, 2
        loop
            v_is_loose := true;
            execute format('grant %s to %s with grant option', v_change.what, v_change.holder);
            execute format('revoke %s from %s cascade', v_change.what, v_change.holder);
        end loop;
    end loop;
    for v_change in
        with change as (
            select 'revoke' as verb, g.kind, g.object, g.attnum, g.grantee, g.privilege
              from pg_temp.given_privileges g
             where g.grantee <> g.owner and not exists (
                   select from pg_temp.wanted_privileges w
                    where (w.kind, w.object, w.attnum, w.grantee, w.privilege)
                        = (g.kind, g.object, g.attnum, g.grantee, g.privilege))
            union
            select 'grant', w.* from pg_temp.wanted_privileges w where not exists (
                   select from pg_temp.given_privileges g
                    where (w.kind, w.object, w.attnum, w.grantee, w.privilege)
                        = (g.kind, g.object, g.attnum, g.grantee, g.privilege)))
        select format('%s %s %s %s', c.verb,
                   pg_temp.privilege_on(c.kind, c.object, c.attnum, c.privilege),
                   case c.verb when 'grant' then 'to' else 'from' end,
                   case c.grantee when 0 then 'public' else c.grantee::regrole::text end
                   || case c.verb when 'grant' then '' else ' cascade' end) as statement
          from change c
         order by c.verb desc, c.kind, c.object, c.grantee
    loop
        execute v_change.statement;
    end loop;
    drop view pg_temp.given_privileges;
    drop function pg_temp.privilege_on;
end $$;
