-- The catalog as a whole: what is sold now, in the form in which it is set.
--
-- What export_catalog() says of a plan, a pack, an agent or an event are the terms that set_plan(),
-- set_credit_product(), set_agent() and set_credit_event() take, without those that are at their
-- default. So a catalog that is exported and applied again changes nothing.
--
-- It looks with the reader's rights and takes no lock.

create or replace function pgsaas.length_text(p_length interval) returns text
language sql immutable parallel safe
as $$
    select case when extract(month from p_length) <> 0 or extract(year from p_length) <> 0
               then extract(year from p_length) * 12 + extract(month from p_length) || ' months'
               else extract(day from p_length) || ' days' end
$$;
comment on function pgsaas.length_text(interval) is
    'A length in days or in months as the catalog writes it.';

create or replace function pgsaas.price_terms(p_price pgsaas.credit_prices) returns jsonb
language sql immutable parallel safe
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'model', p_price.price_model,
        'unit', case when p_price.price_model in ('unit', 'package') then p_price.unit_price end,
        'size', case when p_price.price_model = 'package' then p_price.package_size end,
        'round', nullif(p_price.package_rounding, 'exact'),
        'per', nullif(p_price.tier_scope, 'call'),
        'base', case when p_price.base > 0 or p_price.price_model = 'flat' then p_price.base end,
        'minimum', nullif(p_price.minimum, 0),
        'dimensions', nullif(p_price.dimensions, '{}'),
        'tiers', (select jsonb_agg(jsonb_strip_nulls(x) order by n)
                    from jsonb_array_elements(p_price.tiers) with ordinality t (x, n))))
$$;
comment on function pgsaas.price_terms(pgsaas.credit_prices) is
    'A price as set_credit_event takes it.';

create or replace function pgsaas.limit_terms(p_limits jsonb) returns jsonb
language sql immutable parallel safe
as $$
    select coalesce(jsonb_object_agg(l.key, case
               when l.value -> 'limit' = 'null' then l.value || '{"limit": "unlimited"}'
               else l.value end), '{}')
      from jsonb_each(p_limits) l
$$;
comment on function pgsaas.limit_terms(jsonb) is 'Limits as set_plan takes them.';

create or replace function pgsaas.export_catalog()
returns table (section text, name text, terms jsonb)
language sql stable
as $$
    select 'plans', p.plan_id, jsonb_strip_nulls(jsonb_build_object(
               'name', v.name, 'description', v.description, 'rank', v.rank,
               'default', nullif(p.is_default, false),
               'allowance', nullif(v.allowance, 0),
               'rollover', case when v.rollover_limit is null then to_jsonb('unlimited'::text)
                   else nullif(to_jsonb(v.rollover_limit), '0') end,
               'trial_days', nullif(v.trial_days, 0), 'burn_order', v.burn_order,
               'on_upgrade', nullif(v.on_upgrade, 'keep'),
               'renewal_grace', nullif(pgsaas.length_text(v.renewal_grace), '3 days'),
               'past_due_grace', nullif(pgsaas.length_text(v.past_due_grace), '7 days')))
           || case when exists (select from pgsaas.plan_prices x
                                 where x.plan_id = v.plan_id and x.version = v.version)
               then jsonb_build_object('prices', (
                   select jsonb_agg(jsonb_build_object('interval', x.billing_interval,
                              'currency', x.currency, 'amount', x.unit_amount)
                              order by x.currency, x.billing_interval)
                     from pgsaas.plan_prices x
                    where x.plan_id = v.plan_id and x.version = v.version)) else '{}' end
           || (select coalesce(jsonb_object_agg(f.key, f.value), '{}')
                 from (values ('features', v.features), ('limits', pgsaas.limit_terms(v.limits)),
                          ('rate_limits', pgsaas.limit_terms(v.rate_limits))) f (key, value)
                where f.value <> '{}')
      from pgsaas.plans p
      join pgsaas.plan_versions v on v.plan_id = p.plan_id and v.version = p.version
     where not p.is_retired
    union all
    select 'packs', p.product_id, jsonb_strip_nulls(jsonb_build_object(
               'name', p.name, 'description', p.description, 'credits', p.credits,
               'prices', p.prices, 'expires_after', pgsaas.length_text(p.expires_after),
               'discounts', nullif(p.discounts, '[]')))
      from pgsaas.credit_products p
     where p.is_active
    union all
    select 'agents', a.agent_id, jsonb_strip_nulls(jsonb_build_object(
               'name', a.name, 'description', a.description, 'plan', a.plan_id,
               'excluded_plans', nullif(to_jsonb(a.excluded_plans), '[]'),
               'credits', nullif(a.credits, 0), 'actions', nullif(a.actions, '{}'),
               'availability', nullif(a.availability, 'available')))
      from pgsaas.agents a
     where a.availability <> 'disabled'
    union all
    select 'rewards', r.reward_id, jsonb_strip_nulls(jsonb_build_object(
               'kind', nullif(r.reward_kind, 'code'), 'description', r.description,
               'credits', nullif(r.credits, 0), 'referrer_credits', nullif(r.referrer_credits, 0),
               'expires_after', pgsaas.length_text(r.expires_after),
               'starts_at', to_char(r.starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
               'ends_at', to_char(r.ends_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
               'max_redemptions', r.max_redemptions,
               'account_age', pgsaas.length_text(r.account_age)))
      from pgsaas.rewards r
     where r.is_active
    union all
    select 'events', e.event_name, jsonb_strip_nulls(jsonb_build_object(
               'description', e.description, 'category', e.category, 'unit', e.unit,
               'dimensions', nullif(to_jsonb(e.dimensions), '[]'),
               'prices', (
                   select jsonb_agg(pgsaas.price_terms(x) order by x.specificity, x.dimensions)
                     from pgsaas.credit_prices x
                    where x.event_name = e.event_name and x.effective_at = (
                          select max(y.effective_at) from pgsaas.credit_prices y
                           where y.event_name = e.event_name
                             and y.effective_at <= pgsaas.now()))))
      from pgsaas.credit_events e
     where e.is_active
     order by 1 desc, 2
$$;
comment on function pgsaas.export_catalog() is
    'The plans, packs, agents and events that are on sale now, each with the terms that set it '
    'again.';
