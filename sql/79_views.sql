-- Views of the read API that show what is due as done.
--
-- Each looks with the reader's rights (security_invoker), so row security decides which accounts
-- there are. Accounts where nothing is due are plain rows; only the others are worked out
-- (29_settlement).
--
-- A view is replaced only where it is missing or differs: replacing one waits for everybody who
-- reads it, and makes all other readers wait behind it. So each is made as a temporary view first,
-- and PostgreSQL says by its own text of both whether they are the same.

create temporary view credit_balances with (security_invoker = true) as
select b.account_id, s.balance, s.held,
       greatest(0, s.balance - s.held + s.overdraft_limit) as available, s.owed, s.overdraft_limit,
       s.allowance as monthly_allowance, nullif(s.next_expiry_at, 'infinity') as next_expiry_at,
       nullif(s.next_reset_at, 'infinity') as next_reset_at, s.lifetime_earned,
       s.not_spent - s.balance as lifetime_spent, s.is_frozen, s.low_balance_at, s.burn_order,
       s.seq, s.last_at
  from pgsaas.account_balances b
 cross join lateral pgsaas.project_account(b) s;

create temporary view open_credit_grants with (security_invoker = true) as
select b.account_id, g.grant_id, g.source, g.priority, g.amount, g.remaining, g.effective_at,
       nullif(g.expires_at, 'infinity') as expires_at, g.is_pending, g.revoked, g.moved,
       g.unrecovered
  from pgsaas.account_balances b
 cross join lateral unnest((
       select case when b.next_change_at > greatest(pgsaas.now(),
           b.last_at) then pgsaas.grants_to_settle(b, '{}')
              else (pgsaas.plan_settlement(b, greatest(pgsaas.now(), b.last_at))).grants end)) g
 where (g.is_open and g.remaining > 0) or g.is_pending;

create temporary view open_credit_holds with (security_invoker = true) as
select h.account_id, h.hold_id, h.amount, h.created_at, h.expires_at, h.job_id, h.agent_id,
       h.description, h.metadata
  from pgsaas.credit_holds h join pgsaas.account_balances b using (account_id)
 where h.state = 'open' and h.expires_at > greatest(pgsaas.now(), b.last_at);

create temporary view subscription_plans with (security_invoker = true) as
select p.plan_id, p.version, v.name, v.description, v.rank, v.allowance, v.rollover_limit,
       v.trial_days, v.features, v.limits, v.rate_limits, p.is_default, p.is_retired
  from pgsaas.plans p
  join pgsaas.plan_versions v on v.plan_id = p.plan_id and v.version = p.version;

create temporary view current_subscriptions with (security_invoker = true) as
select b.account_id, s.subscription_id, s.plan_id, s.plan_version, v.name as plan_name, v.rank,
       s.status, pgsaas.gives_access(s.status) as has_access, s.provider, s.billing_interval,
       s.quantity, coalesce(s.allowance, v.allowance) * s.quantity as monthly_allowance,
       s.currency, s.unit_amount, s.started_at, p.period_start as current_period_start,
       p.period_end as current_period_end, s.trial_ends_at,
       s.change_kind is not distinct from 'canceled' as cancel_at_period_end, s.canceled_at,
       s.ended_at, s.change_at, s.next_plan
  from pgsaas.account_balances b
 cross join lateral (
       select x as stored from pgsaas.subscriptions x where x.account_id = b.account_id
        order by x.subscription_id desc limit 1) n
 cross join lateral (
       select * from pgsaas.project_subscription(n.stored, greatest(pgsaas.now(), b.last_at)) x
        order by x.subscription_id desc limit 1) s
 cross join lateral pgsaas.subscription_period(s, coalesce(pgsaas.ended_in(s),
       greatest(pgsaas.now(), b.last_at))) p
  join pgsaas.plan_versions v on v.plan_id = s.plan_id and v.version = s.plan_version;

create temporary view current_jobs with (security_invoker = true) as
select j.account_id, j.job_id, j.job_type, j.agent_id, j.action, x.job_status,
       case when x.job_status = 'abandoned' then 0 else coalesce(t.cost, j.cost_credits) end
           as cost_credits,
       j.plan_id, j.plan_required, j.created_at,
       case when j.job_status <> 'running' then j.ended_at when x.job_status = 'completed' then
           h.closed_at when x.job_status = 'abandoned' then x.expires_at end as ended_at,
       x.expires_at, coalesce(t.seq, j.seq) as seq, j.hold_id, j.input, j.output, j.error
  from pgsaas.jobs j
  join pgsaas.account_balances b on b.account_id = j.account_id
  left join pgsaas.credit_holds h on h.account_id = j.account_id and h.hold_id = j.hold_id
       and j.job_status = 'running'
  left join lateral (
       select t.seq, -t.amount as cost from pgsaas.credit_transactions t
        where h.state = 'captured' and t.account_id = h.account_id and t.hold_id = h.hold_id
          and t.transaction_type = 'capture') t on true
 cross join lateral (
       select coalesce(h.expires_at, j.expires_at) as expires_at,
              case when j.job_status <> 'running' then j.job_status
                   when h.state = 'captured' then 'completed'
                   when coalesce(h.expires_at, j.expires_at) <= greatest(pgsaas.now(), b.last_at)
                       then 'abandoned'
                   else 'running' end as job_status) x;

do $$
declare
    v_wanted record;
begin
    perform pg_catalog.set_config('search_path', '', true);    -- so each text names its schemas
    for v_wanted in
        select c.relname as name, pg_catalog.pg_get_viewdef(c.oid) as text,
               pg_catalog.array_to_string(c.reloptions, ', ') as options
          from pg_catalog.pg_class c
         where c.relnamespace = pg_catalog.pg_my_temp_schema() and c.relkind = 'v'
           and c.relname in ('credit_balances', 'open_credit_grants', 'open_credit_holds',
               'subscription_plans', 'current_subscriptions', 'current_jobs')
    loop
        if not exists (
            select from pg_catalog.pg_class c
             where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relname = v_wanted.name
               and pg_catalog.pg_get_viewdef(c.oid) = v_wanted.text
               and pg_catalog.array_to_string(c.reloptions, ', ') = v_wanted.options) then
            execute pg_catalog.format('create or replace view pgsaas.%I with (%s) as %s',
                v_wanted.name, v_wanted.options, v_wanted.text);
        end if;
        execute pg_catalog.format('drop view pg_temp.%I', v_wanted.name);
        insert into pg_temp.pgsaas_declared (kind, name) values ('view', v_wanted.name);
    end loop;
end $$;

comment on view pgsaas.credit_balances is
    'The balance of each account now, with lifetime totals; what is due is shown as done.';

comment on view pgsaas.open_credit_grants is
    'Grants with free or pending credits now, with what is left of them; what is due is shown as '
    'done.';

comment on view pgsaas.open_credit_holds is
    'Holds that still hold credits now; one whose time has passed is not among them.';

comment on view pgsaas.subscription_plans is
    'Plans by their current terms, retired ones included; list_plans() has those that can be '
    'chosen, with their prices.';

comment on view pgsaas.current_subscriptions is
    'The subscription of each account now, or the last one it had; what time has changed is shown '
    'as done.';

comment on view pgsaas.current_jobs is
    'Every job with what has become of it; one whose time is over is shown as abandoned, one whose '
    'hold was captured as completed.';
