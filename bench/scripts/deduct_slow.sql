\set account random(:first, :last)
\set key random(1, 9000000000000000000)
select * from pgsaas.deduct_slow(lpad(to_hex(:account::int), 32, '0')::uuid, array[1.0], array[null::uuid], array[null], array[null], array[:key::text], array['{}'::jsonb]);
