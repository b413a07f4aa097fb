select count(*) from pgsaas.deduct_credits_batch(
    (select array_agg(lpad(to_hex(g), 32, '0')::uuid order by random()) from generate_series(1, 10000) g),
    array_fill(1::numeric, array[10000]),
    array_fill('0b0e7a52-6a0f-4a5e-9a35-0c1a0d4f8a11'::uuid, array[10000]),
    array_fill('music-studio'::text, array[10000]), array_fill('one generated track'::text, array[10000]),
    (select array_agg(gen_random_uuid()::text) from generate_series(1, 10000)));
