\set account random(1, :accounts)
select count(*) from pgsaas.get_usage_stats(lpad(to_hex(:account::int), 32, '0')::uuid, '2025-01-01', '2025-12-31', '{month,event,kind}');
