select count(*) from pgsaas.record_usage_batch(
    (select array_agg(lpad(to_hex((random() * 9999)::int + 1), 32, '0')::uuid) from generate_series(1, 1000)),
    array_fill('llm_tokens'::text, array[1000]), array_fill(1000::numeric, array[1000]),
    array_fill('{"kind": "prompt"}'::jsonb, array[1000]),
    p_idempotency_keys => (select array_agg(gen_random_uuid()::text) from generate_series(1, 1000)));
