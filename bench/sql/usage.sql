-- Records of a year before the accounts' usage of today, written straight into the tables, and their statistics by day.
set synchronous_commit = off;
insert into pgsaas.usage_records (account_id, usage_id, created_at, occurred_at, priced_at, event_name, quantity, cost,
    balance_after, dimensions)
select lpad(to_hex(a), 32, '0')::uuid, n, now(), timestamptz '2025-01-01 00:00Z' + n * interval '365 days' / r.each,
       null, 'llm_tokens', 1000, 0, 0, jsonb_build_object('kind', (array['prompt', 'completion'])[1 + n % 2])
  from (select current_setting('pgsaas_bench.rows_each')::integer as each) r
 cross join generate_series(1, 10000) a cross join lateral generate_series(1, r.each) n;
insert into pgsaas.daily_usage_stats
select u.account_id, (u.occurred_at at time zone 'UTC')::date, u.event_name, u.dimensions, count(*), sum(u.quantity),
       sum(u.cost)
  from pgsaas.usage_records u group by 1, 2, 3, 4;
insert into pgsaas.usage_rollups select u.account_id, max(u.usage_id) from pgsaas.usage_records u group by 1;
update pgsaas.account_balances b set usage_count = r.usage_id from pgsaas.usage_rollups r where r.account_id = b.account_id;
vacuum analyze;
