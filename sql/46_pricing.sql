-- Pricing: what a use of an action costs.
--
-- A cost is exact until its end, where it is rounded up to 6 places, once per record: splitting use
-- into more records never makes it cheaper by rounding (tiers and packages that are rounded down
-- may, by what they are; tiers that count per period do not).
--
-- Everything here only reads, and takes no lock.

create or replace function pgsaas.price_for(
    p_event text, p_dimensions jsonb, p_at timestamptz)
returns setof pgsaas.credit_prices
language sql stable rows 1
as $$
    select p.* from pgsaas.credit_prices p
     where p.event_name = p_event and p_dimensions @> p.dimensions
       and p.effective_at = (
           select v.effective_at from pgsaas.credit_prices v
            where v.event_name = p_event and v.effective_at <= p_at
            order by v.effective_at desc limit 1)
     order by p.specificity desc
     limit 1
$$;
comment on function pgsaas.price_for(text, jsonb, timestamptz) is
    'The price of an event with these dimensions at a time; no row if there was none.';

-- What units cost together is the price of the tier they reach, which may be lower than what fewer
-- of them cost. What was charged is never given back, so the highest price on the way counts.
create or replace function pgsaas.volume_so_far(p_tiers jsonb, p_quantity numeric)
returns numeric
language sql immutable parallel safe
as $$
    select coalesce(max(least(t.up_to, p_quantity) * t.unit + t.flat), 0)
      from (select x.*, lag(x.up_to, 1, 0.0) over (order by x.n) as above
              from rows from (jsonb_to_recordset(p_tiers) as (up_to numeric, unit numeric,
                       flat numeric)) with ordinality x (up_to, unit, flat, n)) t
     where p_quantity > t.above
$$;
comment on function pgsaas.volume_so_far(jsonb, numeric) is
    'The highest price that a quantity, or a part of it, has by volume tiers; 0 for nothing.';

-- Division is put off to the end and done in whole numbers: a quotient is exact, or rounded up.
create or replace function pgsaas.usage_cost(
    p_price pgsaas.credit_prices, p_quantity numeric, p_before numeric default 0)
returns numeric
language plpgsql immutable parallel safe
as $$
declare
    v_top numeric := 0;
    v_size numeric := 1;
    v_from numeric := 0;
    v_to numeric;
    v_tier record;
begin
    if p_price.price_model = 'unit' then
        v_top := p_quantity * p_price.unit_price;
    elsif p_price.price_model = 'package' and p_price.package_rounding = 'exact' then
        v_size := p_price.package_size;
        v_top := p_quantity * p_price.unit_price;
    elsif p_price.price_model = 'package' then
        v_top := p_price.unit_price * (div(p_quantity, p_price.package_size)
            + (p_price.package_rounding = 'up'
               and mod(p_quantity, p_price.package_size) > 0)::integer);
    elsif p_price.price_model = 'volume' and p_price.tier_scope = 'period' then
        v_top := pgsaas.volume_so_far(p_price.tiers, p_before + p_quantity)
            - pgsaas.volume_so_far(p_price.tiers, p_before);
    elsif p_price.tiers is not null then
        for v_tier in
            select * from jsonb_to_recordset(p_price.tiers) as t (up_to numeric, unit numeric,
                flat numeric)
        loop
            v_to := least(v_tier.up_to, p_before + p_quantity);
            if p_price.price_model = 'volume' and v_to = p_quantity then
                v_top := p_quantity * v_tier.unit + v_tier.flat;
            elsif p_price.price_model = 'graduated' and v_to > greatest(v_from, p_before) then
                v_top := v_top + (v_to - greatest(v_from, p_before)) * v_tier.unit
                    + case when p_before <= v_from then v_tier.flat else 0 end;
            end if;
            v_from := v_tier.up_to;
            exit when v_to = p_before + p_quantity;
        end loop;
    end if;
    v_top := greatest(v_top + p_price.base * v_size, p_price.minimum * v_size) * 1000000;
    return trim_scale((div(v_top, v_size) + (mod(v_top, v_size) > 0)::integer) * 0.000001);
end $$;
comment on function pgsaas.usage_cost(pgsaas.credit_prices, numeric, numeric) is
    'What a quantity costs, rounded up to 6 places; p_before is what the tiers have counted '
    'already.';

create or replace function pgsaas.find_price(
    p_event text, p_dimensions jsonb, p_at timestamptz, p_is_needed boolean default true,
    out p_price pgsaas.credit_prices, out p_error_code text, out p_error_message text)
language plpgsql stable
as $$
declare
    v_event pgsaas.credit_events;
begin
    select * into v_event from pgsaas.credit_events e where e.event_name = p_event;
    if v_event.event_name is null then
        p_error_code := 'EVENT_NOT_FOUND';
        p_error_message := format('no credit event "%s"', p_event);
        return;
    elsif not v_event.is_active then
        p_error_code := 'EVENT_INACTIVE';
        p_error_message := format('credit event "%s" is not active', p_event);
        return;
    end if;
    p_dimensions := pgsaas.check_dimensions(p_event, p_dimensions, v_event.dimensions);
    if not p_is_needed then
        return;
    end if;
    select * into p_price from pgsaas.price_for(p_event, p_dimensions, p_at);
    if p_price.event_name is null then
        p_error_code := 'EVENT_NOT_FOUND';
        p_error_message := format('credit event "%s" has no price at %s%s%s', p_event,
            to_char(p_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
            ' for ' || nullif(p_dimensions, '{}')::text,
            (select '; there are some for ' || string_agg(o.dimensions::text, ', ')
               from (select distinct p.dimensions from pgsaas.credit_prices p
                      where p.event_name = p_event and p.effective_at <= p_at
                      order by 1 limit 4) o));
    end if;
end $$;
comment on function pgsaas.find_price(text, jsonb, timestamptz, boolean) is
    'The price of an event with these dimensions at a time, or why there is none. One that is not '
    'needed is not looked for. Raises 22023 for dimensions that the event does not have.';

create or replace function pgsaas.price_usage(
    p_event text, p_quantity numeric default 1, p_dimensions jsonb default '{}',
    p_occurred_at timestamptz default null)
returns table (success boolean, cost numeric, error_code text, error_message text, price jsonb)
language plpgsql stable security definer set search_path = '' rows 1
as $$
declare
    v_found record;
begin
    p_quantity := pgsaas.check_amount(p_quantity, 'quantity');
    select * into v_found
      from pgsaas.find_price(p_event, p_dimensions, coalesce(p_occurred_at, pgsaas.now()));
    error_code := v_found.p_error_code;
    error_message := v_found.p_error_message;
    success := error_code is null;
    if success then
        cost := pgsaas.usage_cost(v_found.p_price, p_quantity);
        price := to_jsonb(v_found.p_price);
    end if;
    return next;
end $$;
comment on function pgsaas.price_usage(text, numeric, jsonb, timestamptz) is
    'What this use would cost, and the price that says so. Tiers that count per period are counted '
    'from nothing. EVENT_NOT_FOUND (also where there was no price then), EVENT_INACTIVE. 22023 for '
    'a quantity that is no amount and for dimensions that the event does not have.';

create or replace function pgsaas.check_occurred_at(p_occurred_at timestamptz) returns void
language plpgsql stable
as $$
begin
    if p_occurred_at not between '1970-01-01 00:00Z' and pgsaas.now() + interval '1 hour' then
        raise exception 'occurred_at must lie between 1970 and now: %', p_occurred_at
            using errcode = '22023', hint = 'A clock may be ahead by up to an hour.';
    end if;
end $$;
comment on function pgsaas.check_occurred_at(timestamptz) is
    'Raises 22023 for a time before 1970, and for one more than an hour ahead. Null passes.';

create or replace function pgsaas.price_item(
    p_event text, p_quantity numeric, p_dimensions jsonb, p_occurred_at timestamptz,
    p_cost numeric)
returns table (success boolean, cost numeric, error_code text, error_message text)
language plpgsql stable rows 1
as $$
declare
    v_found record;
begin
    perform pgsaas.check_amount(p_quantity, 'quantity');
    perform pgsaas.check_occurred_at(p_occurred_at);
    if p_cost <> 0 then
        p_cost := pgsaas.check_amount(p_cost, 'cost');
    end if;
    select * into v_found from pgsaas.find_price(p_event, p_dimensions,
        least(coalesce(p_occurred_at, pgsaas.now()), pgsaas.now()), p_cost is null);
    error_code := v_found.p_error_code;
    error_message := v_found.p_error_message;
    success := error_code is null;
    if success then
        cost := coalesce(p_cost, pgsaas.usage_cost(v_found.p_price, p_quantity));
        if cost <> 0 then
            cost := pgsaas.check_amount(cost, 'cost');
        end if;
    end if;
    return next;
exception when invalid_parameter_value then
    return query select false, null::numeric, 'INVALID_ARGUMENT', sqlerrm;
end $$;
comment on function pgsaas.price_item(text, numeric, jsonb, timestamptz, numeric) is
    'What record_usage would charge for an item of a batch, tiers counted from nothing: what it '
    'would raise is the item''s answer.';

-- Each item looks for its price by index: a session keeps this plan, so it must not depend on how
-- small the tables were when it was made.
create or replace function pgsaas.price_items(
    p_events text[], p_quantities numeric[], p_dimensions jsonb[], p_occurred_at timestamptz[],
    p_costs numeric[] default null,
    out p_prices numeric[], out p_priced_at timestamptz[])
language plpgsql stable set plan_cache_mode = 'force_generic_plan' set enable_seqscan = off
as $$
declare
    v_now constant timestamptz := pgsaas.now();
begin
    select array_agg(case when i.is_priced then coalesce(i.cost, pgsaas.usage_cost(p, i.quantity))
               end order by i.ord),
           array_agg(p.effective_at order by i.ord)
      into p_prices, p_priced_at
      from (select u.event, coalesce(u.dimensions, '{}') as dimensions, trim_scale(u.cost) as cost,
                   u.ord,
                   case when p_quantities is null then 1 else u.quantity end as quantity,
                   coalesce(u.occurred_at, v_now) as occurred_at
              from unnest(p_events, p_quantities, p_dimensions, p_occurred_at, p_costs)
                   with ordinality u (event, quantity, dimensions, occurred_at, cost, ord)) u
      left join pgsaas.credit_events e on e.event_name = u.event
      left join lateral pgsaas.price_for(u.event, u.dimensions, u.occurred_at) p on u.cost is null
     cross join lateral (
           select u.*, u.quantity > 0 and u.quantity <= 1000000000000 and scale(u.quantity) <= 6
               and e.is_active and coalesce(p.tier_scope, 'call') = 'call'
               and u.occurred_at between '1970-01-01 00:00Z' and v_now
               and pgsaas.are_dimensions(u.dimensions, e.dimensions) as is_priced) i;
end $$;
comment on function pgsaas.price_items(text[], numeric[], jsonb[], timestamptz[], numeric[]) is
    'What items cost, or the stated costs, in item order, and the versions that say so. Null where '
    'price_item has to say what is wrong, or where the tiers count per period.';

create or replace function pgsaas.price_usage_batch(
    p_events text[], p_quantities numeric[] default null, p_dimensions jsonb[] default null,
    p_occurred_at timestamptz[] default null, p_costs numeric[] default null)
returns table (item integer, success boolean, cost numeric, error_code text, error_message text)
language plpgsql stable security definer set search_path = ''
as $$
declare
    v_n constant integer := cardinality(p_events);
    v_prices numeric[];
begin
    if v_n is null or v_n > 10000 or cardinality(p_quantities) <> v_n
       or cardinality(p_dimensions) <> v_n or cardinality(p_occurred_at) <> v_n
       or cardinality(p_costs) <> v_n then
        raise exception 'a batch is at most 10000 items, in arrays of one length'
            using errcode = '22023';
    end if;
    select i.p_prices into v_prices
      from pgsaas.price_items(p_events, p_quantities, p_dimensions, p_occurred_at, p_costs) i;
    return query
        select i.place::integer, p.*
          from unnest(p_events, p_quantities, p_dimensions, p_occurred_at, p_costs, v_prices)
               with ordinality i (event, quantity, dimensions, occurred_at, cost, price, place)
         cross join lateral (
               select true, i.price, null, null where i.price between 0 and 1000000000000
                  and scale(i.price) <= 6
               union all
               select q.* from pgsaas.price_item(i.event,
                   case when p_quantities is null then 1 else i.quantity end, i.dimensions,
                   i.occurred_at, i.cost) q
                where (i.price between 0 and 1000000000000 and scale(i.price) <= 6) is not true) p
         order by i.place;
end $$;
comment on function pgsaas.price_usage_batch(text[], numeric[], jsonb[], timestamptz[], numeric[])
    is
    'What record_usage_batch would charge for up to 10,000 items, given as arrays of one length '
    '(an array may be null as a whole; quantities then are 1), tiers per period counted from '
    'nothing; answers in item order. Wrong arguments are the item''s own INVALID_ARGUMENT. 22023 '
    'for more items or unequal arrays.';

create or replace function pgsaas.query_cost(
    p_tools text[], out cost numeric, out error_code text, out error_message text)
language sql stable security definer set search_path = ''
as $$
    select case when count(u.error_code) = 0 then sum(u.cost) end,
           (array_agg(u.error_code order by u.n) filter (where u.error_code is not null))[1],
           (array_agg(u.error_message order by u.n) filter (where u.error_code is not null))[1]
      from (select 0 as n, p.* from pgsaas.price_usage('query') p
            union all
            select t.n, p.*
              from unnest(p_tools) with ordinality t (tool, n)
             cross join lateral pgsaas.price_usage('query_tool', 1,
                 jsonb_build_object('tool', t.tool)) p) u
$$;
comment on function pgsaas.query_cost(text[]) is
    'The price of the event "query" and, for each tool, that of "query_tool" with the dimension '
    'tool; or the first reason why there is none. Tiers are counted from nothing.';

create or replace function pgsaas.calculate_query_cost(p_tools text[] default '{}') returns numeric
language plpgsql stable
as $$
declare
    v_query record;
begin
    select * into v_query from pgsaas.query_cost(p_tools);
    if v_query.error_code is not null then
        raise exception '%', v_query.error_message using errcode = 'PT404';
    end if;
    return v_query.cost;
end $$;
comment on function pgsaas.calculate_query_cost(text[]) is
    'What a query costs that uses these tools, each entry counted: the price of the event "query" '
    'and, for each, that of "query_tool" with the dimension tool. PT404 where these have no price.';

create or replace function pgsaas.get_credit_cost(p_action text) returns numeric
language plpgsql stable security definer set search_path = ''
as $$
declare
    v_name constant text := split_part(p_action, '.', 1);
    v_cost numeric;
begin
    select p.cost into v_cost from pgsaas.price_usage(p_action) p;
    if v_cost is null then
        select coalesce((a.actions ->> nullif(substr(p_action, length(v_name) + 2), ''))::numeric,
                   a.credits)
          into v_cost from pgsaas.agents a where a.agent_id = v_name;
    end if;
    if v_cost is null and v_name <> p_action then
        select p.cost into v_cost from pgsaas.price_usage(v_name) p;
    end if;
    if v_cost is null then
        perform pgsaas.raise_not_found('action');
    end if;
    return v_cost;
end $$;
comment on function pgsaas.get_credit_cost(text) is
    'What an action such as music-studio.generate costs once: the price of the event of that '
    'name, else what the agent before the first dot asks for that action or for any, else the '
    'price of the event before the dot. PT404 if there is none, or it is not active.';
