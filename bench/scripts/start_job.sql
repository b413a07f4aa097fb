\set account random(1, :accounts)
\set key random(1, 9000000000000000000)
select * from pgsaas.start_job(lpad(to_hex(:account::int), 32, '0')::uuid, 'music-studio.generate', 'generate', p_idempotency_key => :key::text);
