select count(*) from pgsaas.deduct_credits_batch(
    (select array_agg(lpad(to_hex(g), 32, '0')::uuid order by random()) from generate_series(1, 10000) g),
    array_fill(1::numeric, array[10000]));
