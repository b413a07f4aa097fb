-- A plan, an agent, and the 10,000 accounts subscribed; their periods stay as they are.
set synchronous_commit = off;
select pgsaas.set_plan('pro', '{"allowance": 1000, "rollover": 500}');
select pgsaas.set_agent('music-studio', '{"plan": "pro", "credits": 1}');
insert into pgsaas.subscriptions (account_id, subscription_id, plan_id, plan_version, status, provider, started_at,
    period_anchor)
select b.account_id, 1, 'pro', 1, 'active', 'manual', b.last_at, b.period_anchor from pgsaas.account_balances b;
vacuum analyze;
