\set account random(1, :accounts)
\set key random(1, 9000000000000000000)
select * from pgsaas.deduct_credits(lpad(to_hex(:account::int), 32, '0')::uuid, 1, '0b0e7a52-6a0f-4a5e-9a35-0c1a0d4f8a11', 'music-studio', 'one generated track', :key::text);
