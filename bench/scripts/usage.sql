\set account random(1, :accounts)
\set key random(1, 9000000000000000000)
select * from pgsaas.record_usage(lpad(to_hex(:account::int), 32, '0')::uuid, 'llm_tokens', 1000, '{"kind": "prompt"}', p_idempotency_key => :key::text);
