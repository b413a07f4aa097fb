select count(*) from pgsaas.deduct_credits_batch(
    array_fill(lpad('1', 32, '0')::uuid, array[100]), array_fill(1::numeric, array[100]),
    p_idempotency_keys => (select array_agg(gen_random_uuid()::text) from generate_series(1, 100)));
