select count(*) from pgsaas.deduct_credits_batch(
    (select array_agg(lpad(to_hex((random() * 9999)::int + 1), 32, '0')::uuid) from generate_series(1, 1000)),
    array_fill(1::numeric, array[1000]),
    p_idempotency_keys => (select array_agg(gen_random_uuid()::text) from generate_series(1, 1000)));
