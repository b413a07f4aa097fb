-- Products: packs of credits that are bought once.
--
-- A pack may cost less each where several are bought together, and its credits may expire. What was
-- bought before a change stays as it was: a grant remembers all it needs.
--
-- Lock rule: the product's row, nothing else; of two that meet, the one that began first loses
-- (40001).

create or replace function pgsaas.set_credit_product(
    p_product_id text, p_terms jsonb, p_reason text default null)
returns table (product_id text, changed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := pgsaas.now();
    v_was pgsaas.credit_products;
    v_new pgsaas.credit_products;
    v_discount jsonb;
    v_price record;
    v_from numeric := 1;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    perform pgsaas.check_terms(format('pack "%s"', p_product_id), p_terms,
        '{name,description,credits,expires_after,discounts,prices,active}');
    if p_product_id is null or p_product_id !~ '^[a-z0-9][a-z0-9_.-]{0,99}$' then
        raise exception 'a pack''s id has 1 to 100 small letters, digits, _, . and -, not "%"',
            p_product_id using errcode = '22023';
    elsif not p_terms ?& '{credits,prices}' or jsonb_typeof(p_terms -> 'prices') <> 'object'
          or p_terms -> 'prices' = '{}' then
        raise exception 'a pack needs "credits", and "prices" such as {"usd": 500}'
            using errcode = '22023';
    elsif jsonb_typeof(p_terms -> 'active') <> 'boolean'
          or jsonb_typeof(p_terms -> 'discounts') <> 'array' then
        raise exception '"active" is true or false, "discounts" a list such as '
            '[{"from": 10, "percent": 5}]' using errcode = '22023';
    end if;
    for v_price in select p.key from jsonb_each(p_terms -> 'prices') p loop
        if v_price.key !~ '^[a-z]{3}$' then
            raise exception 'a currency has three small letters, not "%"', v_price.key
                using errcode = '22023';
        end if;
        perform pgsaas.term_number(p_terms -> 'prices', v_price.key, 1, 99999999, 0);
    end loop;
    for v_discount in
        select x from jsonb_array_elements(coalesce(p_terms -> 'discounts', '[]')) x
    loop
        perform pgsaas.check_terms('a discount', v_discount, '{from,percent}');
        if not v_discount ?& '{from,percent}'
           or pgsaas.term_number(v_discount, 'from', 2, 1000000, 0) <= v_from
           or pgsaas.term_number(v_discount, 'percent', 0, 100, 2) = 100 then
            raise exception 'discounts are for rising quantities from 2 on, below 100 percent: %',
                v_discount using errcode = '22023';
        end if;
        v_from := (v_discount ->> 'from')::numeric;
    end loop;
    v_new.product_id := p_product_id;
    v_new.name := pgsaas.term_text(p_terms, 'name', p_product_id);
    v_new.description := pgsaas.term_text(p_terms, 'description');
    v_new.credits := pgsaas.term_number(p_terms, 'credits', 0.000001, 1000000000000, 6);
    v_new.expires_after := pgsaas.term_interval(p_terms, 'expires_after', '20 years');
    v_new.discounts := coalesce(p_terms -> 'discounts', '[]');
    v_new.prices := p_terms -> 'prices';
    v_new.is_active := coalesce((p_terms ->> 'active')::boolean, true);
    v_new.created_at := v_now;
    v_new.changed_at := v_now;
    if octet_length(v_new.name) not between 1 and 100
       or octet_length(v_new.description) > 4096 then
        raise exception 'a name has 1 to 100 bytes, a description at most 4096'
            using errcode = '22023';
    end if;
    insert into pgsaas.credit_products select v_new.* on conflict do nothing;
    changed := found;
    if not changed then
        select * into v_was from pgsaas.credit_products p where p.product_id = p_product_id
            for no key update;
        changed := to_jsonb(v_was) - '{created_at,changed_at}'::text[]
            <> to_jsonb(v_new) - '{created_at,changed_at}'::text[];
        if changed and v_was.changed_at > v_now then
            raise exception 'somebody else has changed the pack "%" meanwhile', p_product_id
                using errcode = '40001';
        end if;
        update pgsaas.credit_products p
           set name = v_new.name, description = v_new.description, credits = v_new.credits,
               expires_after = v_new.expires_after, discounts = v_new.discounts,
               prices = v_new.prices, is_active = v_new.is_active, changed_at = v_now
         where p.product_id = p_product_id and changed;
    end if;
    if changed then
        perform pgsaas.audit('credit_product.changed', null, jsonb_build_object('product',
            p_product_id, 'terms', p_terms, 'reason', p_reason));
    end if;
    product_id := p_product_id;
    return next;
end $$;
comment on function pgsaas.set_credit_product(text, jsonb, text) is
    'Makes a pack of credits or changes it; what was bought before stays as it was. Terms: name, '
    'description, credits, prices {currency: amount in its smallest unit}, expires_after ("12 '
    'months"; never if left out), discounts [{"from": quantity, "percent"}, …], active. 22023 for '
    'wrong terms, 40001 when somebody changed it meanwhile. Audited.';

create or replace function pgsaas.list_credit_products(p_quantity integer default 1)
returns table (product_id text, name text, description text, credits numeric,
    expires_after interval, prices jsonb, percent_off numeric)
language plpgsql stable
as $$
begin
    if p_quantity is null or p_quantity not between 1 and 1000000 then
        raise exception 'a quantity is 1 to 1000000, not %', p_quantity using errcode = '22023';
    end if;
    return query
        select p.product_id, p.name, p.description, p.credits * p_quantity, p.expires_after,
               (select jsonb_object_agg(x.key, round(x.value::text::numeric * p_quantity
                           * (100 - d.percent) / 100)) from jsonb_each(p.prices) x),
               d.percent
          from pgsaas.credit_products p
         cross join lateral (
               select coalesce(max((x ->> 'percent')::numeric)
                          filter (where (x ->> 'from')::integer <= p_quantity), 0) as percent
                 from jsonb_array_elements(p.discounts) x) d
         where p.is_active
         order by p.credits, p.product_id;
end $$;
comment on function pgsaas.list_credit_products(integer) is
    'The packs on sale: credits and prices (in the currency''s smallest unit) of a quantity, its '
    'discount taken off. 22023 for a quantity that is none.';
