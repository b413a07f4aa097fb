-- A plan, an agent, and the 10,000 accounts subscribed; their periods stay as they are.
set synchronous_commit = off;
select pgsaas.set_plan('pro', '{"allowance": 1000, "rollover": 500}');
select pgsaas.set_agent('music-studio', '{"plan": "pro", "credits": 1}');
insert into pgsaas.subscriptions (account_id, subscription_id, plan_id, plan_version, status, provider, started_at,
    period_anchor)
select b.account_id, 1, 'pro', 1, 'active', 'manual', b.last_at, b.period_anchor from pgsaas.account_balances b;
-- Jobs that have ended, so that plans are made for tables with rows in them.
select count(f.success)
  from (select account_id from pgsaas.account_balances order by account_id limit 2000) b
 cross join lateral pgsaas.start_job(b.account_id, 'music-studio') s
 cross join lateral pgsaas.fail_job(b.account_id, s.job_id) f;
vacuum analyze;
