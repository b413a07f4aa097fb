-- Prices: what actions cost, in versions.
--
-- A credit event has versions of its prices; a version is the list of prices that begin at one
-- moment and holds until the next version. What is in force is never changed, so a late event finds
-- the price of its day. Within a version the price that names the most of a record's dimensions
-- wins; a version in which two could win is refused when it is set, unless a third names all that
-- both name.
--
-- Lock rule: set_credit_event locks the event's row, nothing else; of two that meet, the one that
-- began first loses (40001). Whoever charges meanwhile sees the versions that were committed when
-- it began.

create or replace function pgsaas.check_price_figure(p_price jsonb, p_name text, p_default numeric)
returns numeric
language plpgsql immutable parallel safe
as $$
declare
    v_figure numeric;
begin
    if not p_price ? p_name then
        return p_default;
    end if;
    if jsonb_typeof(p_price -> p_name) = 'number' then
        v_figure := (p_price ->> p_name)::numeric;
    end if;
    if v_figure is null or v_figure < 0 or v_figure > 1000000000000
       or v_figure <> round(v_figure, 12) then
        raise exception '"%" of a price must be a number from 0 to 10^12 with at most 12 decimals, '
            'not %', p_name, p_price -> p_name using errcode = '22023';
    end if;
    return trim_scale(v_figure);
end $$;
comment on function pgsaas.check_price_figure(jsonb, text, numeric) is
    'A figure of a price that is to be, or its default. Raises 22023 for what can be none.';

create or replace function pgsaas.check_tiers(p_tiers jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    v_tier jsonb;
    v_from numeric := 0;
    v_n integer := 0;
    v_is_last boolean := false;
    v_checked jsonb := '[]'::jsonb;
begin
    if jsonb_typeof(p_tiers) is distinct from 'array' or p_tiers = '[]' then
        raise exception 'tiers are a list such as [{"up_to": 1000, "unit": 1}, {"unit": 0.5}]'
            using errcode = '22023';
    end if;
    for v_tier in select x from jsonb_array_elements(p_tiers) x loop
        v_n := v_n + 1;
        if jsonb_typeof(v_tier) <> 'object' or v_tier - 'up_to' - 'unit' - 'flat' <> '{}'
           or not v_tier ?| array['unit', 'flat'] then
            raise exception 'tier % is no object of up_to and unit or flat: %', v_n, v_tier
                using errcode = '22023';
        elsif v_is_last then
            raise exception 'tier % comes after one without an end: they overlap', v_n
                using errcode = '22023';
        end if;
        v_is_last := coalesce(v_tier -> 'up_to', 'null') = 'null';
        if not v_is_last then
            if pgsaas.check_price_figure(v_tier, 'up_to', null) <= v_from then
                raise exception 'tier % ends at %, where the one before it ends at %: they overlap',
                    v_n, v_tier ->> 'up_to', trim_scale(v_from) using errcode = '22023';
            end if;
            v_from := (v_tier ->> 'up_to')::numeric;
        end if;
        v_checked := v_checked || jsonb_build_object('up_to', v_tier -> 'up_to',
            'unit', pgsaas.check_price_figure(v_tier, 'unit', 0),
            'flat', pgsaas.check_price_figure(v_tier, 'flat', 0));
    end loop;
    if not v_is_last then
        raise exception 'nothing has a price above %: the last tier has no up_to',
            trim_scale(v_from) using errcode = '22023';
    end if;
    return v_checked;
end $$;
comment on function pgsaas.check_tiers(jsonb) is
    'Tiers as they are stored. Raises 22023 for gaps, overlaps and figures that can be none.';

-- A price is an object: {"model": "unit", "unit": 0.002, "dimensions": {"kind": "completion"}, …}.
create or replace function pgsaas.check_price(
    p_event text, p_price jsonb, p_dimensions text[], out price pgsaas.credit_prices)
language plpgsql immutable parallel safe
as $$
declare
    v_odd text;
begin
    if jsonb_typeof(p_price) is distinct from 'object' then
        raise exception 'a price is an object such as {"model": "unit", "unit": 0.002}, not %',
            p_price using errcode = '22023';
    end if;
    select k into v_odd from jsonb_object_keys(p_price) k
     where k not in ('model', 'unit', 'base', 'minimum', 'size', 'round', 'tiers', 'per',
                     'dimensions')
     order by k limit 1;
    if v_odd is not null then
        raise exception 'a price has no "%"', v_odd using errcode = '22023',
            hint = 'It has model, unit, base, minimum, size, round, tiers, per and dimensions.';
    end if;
    select k into v_odd from unnest('{model,round,per}'::text[]) k
     where jsonb_typeof(p_price -> k) <> 'string';
    if v_odd is not null then
        raise exception '"%" of a price is a word, not %', v_odd, p_price -> v_odd
            using errcode = '22023';
    elsif not p_price ?| array['model', 'base'] then
        raise exception 'a price needs a "model", or a "base" alone: %', p_price
            using errcode = '22023',
            hint = 'Models are flat, unit, package, graduated and volume.';
    end if;
    price.event_name := p_event;
    price.price_model := coalesce(p_price ->> 'model', 'flat');
    if price.price_model not in ('flat', 'unit', 'package', 'graduated', 'volume') then
        raise exception 'no price model "%"', price.price_model using errcode = '22023',
            hint = 'Models are flat, unit, package, graduated and volume.';
    end if;
    price.unit_price := pgsaas.check_price_figure(p_price, 'unit', 0);
    price.base := pgsaas.check_price_figure(p_price, 'base', 0);
    price.minimum := pgsaas.check_price_figure(p_price, 'minimum', 0);
    price.package_size := pgsaas.check_price_figure(p_price, 'size', 1);
    price.package_rounding := coalesce(p_price ->> 'round', 'exact');
    price.tier_scope := coalesce(p_price ->> 'per', 'call');
    v_odd := case
        when p_price ? 'unit' and price.price_model not in ('unit', 'package') then 'unit'
        when p_price ?| array['size', 'round'] and price.price_model <> 'package' then 'size'
        when p_price ?| array['tiers', 'per'] and price.price_model not in ('graduated', 'volume')
            then 'tiers' end;
    if v_odd is not null then
        raise exception 'a % price has no "%"', price.price_model, v_odd using errcode = '22023';
    elsif not p_price ? 'base' and price.price_model = 'flat' then
        raise exception 'a flat price needs a "base"' using errcode = '22023',
            hint = '0 where it is free.';
    elsif not p_price ? 'unit' and price.price_model in ('unit', 'package') then
        raise exception 'a % price needs "unit"', price.price_model using errcode = '22023';
    elsif not p_price ? 'size' and price.price_model = 'package' or price.package_size = 0 then
        raise exception 'a package needs a "size" above 0' using errcode = '22023';
    elsif price.package_rounding not in ('up', 'down', 'exact') then
        raise exception '"round" is up, down or exact, not "%"', price.package_rounding
            using errcode = '22023';
    elsif price.tier_scope not in ('call', 'period') then
        raise exception '"per" is call or period, not "%"', price.tier_scope
            using errcode = '22023';
    end if;
    if price.price_model in ('graduated', 'volume') then
        price.tiers := pgsaas.check_tiers(p_price -> 'tiers');
    end if;
    price.dimensions := pgsaas.check_dimensions(p_event, coalesce(p_price -> 'dimensions', '{}'),
        p_dimensions);
    price.specificity := (select count(*) from jsonb_object_keys(price.dimensions));
end $$;
comment on function pgsaas.check_price(text, jsonb, text[]) is
    'A price as it is stored, without the time it begins. Raises 22023 for what can be none.';

create or replace function pgsaas.are_dimensions(p_dimensions jsonb, p_known text[])
returns boolean
language sql immutable parallel safe
as $$
    select p_dimensions = '{}' or case when jsonb_typeof(p_dimensions) = 'object'
        then p_dimensions - p_known = '{}' and octet_length(p_dimensions::text) <= 1024
             and not jsonb_path_exists(p_dimensions, 'strict $.* ? (@.type() <> "string")')
        else false end
$$;
comment on function pgsaas.are_dimensions(jsonb, text[]) is
    'Whether these are dimensions of an event that knows some: each known and a text, in at most '
    '1024 bytes.';

create or replace function pgsaas.check_dimensions(
    p_event text, p_dimensions jsonb, p_known text[])
returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    v_odd record;
begin
    p_dimensions := coalesce(p_dimensions, '{}');
    if pgsaas.are_dimensions(p_dimensions, p_known) then
        return p_dimensions;
    elsif jsonb_typeof(p_dimensions) <> 'object' then
        raise exception 'dimensions are a JSON object, not %', jsonb_typeof(p_dimensions)
            using errcode = '22023';
    elsif octet_length(p_dimensions::text) > 1024 then
        raise exception 'dimensions must not exceed 1024 bytes, not %',
            octet_length(p_dimensions::text) using errcode = '22023';
    end if;
    select d.key, jsonb_typeof(d.value) as type into v_odd from jsonb_each(p_dimensions) d
     where d.key <> all (p_known) or jsonb_typeof(d.value) <> 'string'
     order by d.key limit 1;
    if v_odd.key <> all (p_known) then
        raise exception '"%" has no dimension "%"', p_event, v_odd.key using errcode = '22023',
            hint = case when p_known = '{}' then 'It has none; other facts belong in the metadata.'
                else 'It has ' || array_to_string(p_known, ', ')
                    || '; other facts belong in the metadata.' end;
    end if;
    raise exception 'dimension "%" must be a text, not %', v_odd.key, v_odd.type
        using errcode = '22023';
end $$;
comment on function pgsaas.check_dimensions(text, jsonb, text[]) is
    'Dimensions of a record or a price. Raises 22023 unless each is known to the event and a text.';

create or replace function pgsaas.set_credit_event(
    p_event text, p_prices jsonb default null, p_description text default null,
    p_category text default null, p_unit text default null, p_dimensions text[] default null,
    p_is_active boolean default null, p_effective_at timestamptz default null,
    p_reason text default null)
returns table (event_name text, effective_at timestamptz, changed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_event pgsaas.credit_events;
    v_was pgsaas.credit_events;
    v_price jsonb;
    v_prices pgsaas.credit_prices[] := array[]::pgsaas.credit_prices[];
    v_clash record;
    v_version timestamptz;
    v_now constant timestamptz := pgsaas.now();
    v_at constant timestamptz := coalesce(p_effective_at, v_now);
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    if p_event is null or octet_length(p_event) not between 1 and 100
       or octet_length(p_description) > 4096
       or octet_length(p_category) not between 1 and 100
       or octet_length(p_unit) not between 1 and 100 then
        raise exception 'an event, its category and its unit have names of 1 to 100 bytes, a '
            'description at most 4096' using errcode = '22023';
    elsif v_at not between '1970-01-01 00:00Z' and '9999-01-01 00:00Z' then
        raise exception 'prices begin between 1970 and 9999, not %', v_at using errcode = '22023';
    elsif p_effective_at is not null and p_prices is null then
        raise exception 'a time was given, and no prices that begin then' using errcode = '22023';
    elsif exists (select from unnest(p_dimensions) d (name)
                   where (octet_length(d.name) between 1 and 100 and d.name
                          not in ('day', 'week', 'month', 'event', 'category')) is not true)
          or cardinality(p_dimensions) > (
              select count(distinct d.name) from unnest(p_dimensions) d (name)) then
        raise exception 'dimensions have different names of 1 to 100 bytes, and none is called '
            'day, week, month, event or category' using errcode = '22023';
    end if;
    insert into pgsaas.credit_events (event_name, created_at, changed_at)
    values (p_event, v_now, v_now)
    on conflict do nothing;
    changed := found;
    select * into v_was from pgsaas.credit_events e where e.event_name = p_event
        for no key update;
    v_event := v_was;
    v_event.description := coalesce(p_description, v_was.description);
    v_event.category := coalesce(p_category, v_was.category);
    v_event.unit := coalesce(p_unit, v_was.unit);
    v_event.dimensions := coalesce(p_dimensions, v_was.dimensions);
    v_event.is_active := coalesce(p_is_active, v_was.is_active);
    select p.effective_at into v_version from pgsaas.credit_prices p
     where p.event_name = p_event and p.effective_at <= v_at order by p.effective_at desc limit 1;
    if p_prices is null and not exists (
            select from pgsaas.credit_prices p where p.event_name = p_event) then
        raise exception 'event "%" is new: it needs prices', p_event using errcode = '22023';
    end if;
    for v_price in
        select x from jsonb_array_elements(case jsonb_typeof(p_prices)
            when 'array' then p_prices else jsonb_build_array(p_prices) end) x
         where p_prices is not null
    loop
        v_prices := v_prices || pgsaas.check_price(p_event, v_price, v_event.dimensions);
        v_prices[cardinality(v_prices)].effective_at := v_at;
    end loop;
    if p_prices is not null and v_prices = '{}' then
        raise exception 'a version has at least one price' using errcode = '22023';
    end if;
    -- what both could match; a price for all that both name decides between them
    select a.dimensions as one, b.dimensions as other into v_clash
      from unnest(v_prices) with ordinality a join unnest(v_prices) with ordinality b
        on a.ordinality < b.ordinality and a.specificity = b.specificity
     where (a.dimensions || b.dimensions) @> a.dimensions
       and not exists (select from unnest(v_prices) c
                        where c.dimensions = a.dimensions || b.dimensions
                          and a.dimensions <> b.dimensions)
     limit 1;
    if found then
        raise exception 'two prices of "%" are equally specific: % and %', p_event, v_clash.one,
            v_clash.other using errcode = '22023',
            hint = 'Give the dimensions of both a price of their own.';
    end if;
    event_name := p_event;
    effective_at := v_version;
    changed := changed or v_event is distinct from v_was;
    if v_prices <> '{}' and exists (
        (select to_jsonb(p) - 'effective_at' from pgsaas.credit_prices p
          where p.event_name = p_event and p.effective_at = v_version
         except select to_jsonb(p) - 'effective_at' from unnest(v_prices) p)
        union all
        (select to_jsonb(p) - 'effective_at' from unnest(v_prices) p
         except select to_jsonb(p) - 'effective_at' from pgsaas.credit_prices p
          where p.event_name = p_event and p.effective_at = v_version)) then
        if v_version = v_at and v_at <= v_now or v_at < v_now and v_version is not null
           or v_version = v_at and exists (
               select from pgsaas.usage_records u
                where u.event_name = p_event and u.priced_at = v_at) then
            raise exception 'prices of "%" that were in force at % stay as they were: begin new '
                'ones now or later', p_event, v_at using errcode = 'PT409';
        end if;
        delete from pgsaas.credit_prices p
         where p.event_name = p_event and p.effective_at = v_at;
        insert into pgsaas.credit_prices select p.* from unnest(v_prices) p;
        effective_at := v_at;
        changed := true;
    end if;
    if changed and v_was.changed_at > v_now then
        raise exception 'somebody else has changed the event "%" meanwhile', p_event
            using errcode = '40001';
    end if;
    select p.dimensions as one into v_clash from pgsaas.credit_prices p
     where p.event_name = p_event and p.dimensions - v_event.dimensions <> '{}' limit 1;
    if found then
        raise exception 'a price of "%" names the dimensions %: they stay', p_event, v_clash.one
            using errcode = '22023';
    end if;
    update pgsaas.credit_events e
       set changed_at = case when changed then v_now else e.changed_at end,
           description = v_event.description, category = v_event.category, unit = v_event.unit,
           dimensions = v_event.dimensions, is_active = v_event.is_active
     where e.event_name = p_event;
    if changed then
        perform pgsaas.audit('credit_event.changed', null, jsonb_build_object('event', p_event,
            'effective_at', effective_at, 'prices', p_prices, 'is_active', v_event.is_active,
            'dimensions', v_event.dimensions, 'reason', p_reason));
    end if;
    return next;
end $$;
comment on function pgsaas.set_credit_event(text, jsonb, text, text, text, text[], boolean,
    timestamptz, text) is
    'Makes a credit event or changes it; null leaves a thing as it is. p_prices is one price or a '
    'list of them and begins at p_effective_at (null: now) as a new version: {"model": flat, unit,'
    ' package, graduated or volume, "base", "unit", "minimum", "size" and "round" (up, down, '
    'exact) of a package, "tiers" [{"up_to", "unit", "flat"}, …] counted "per" call or period (by '
    'volume per period all units cost what the tier they reach says, and what was charged is never'
    ' given back), "dimensions" {name: value}}. p_dimensions are all names; one that a price names'
    ' stays. Prices that are in force already make no new version. 22023 for what can be no price;'
    ' PT409 for prices in the place of others that are or were in force; 40001 when somebody '
    'changed the event meanwhile. Audited.';
