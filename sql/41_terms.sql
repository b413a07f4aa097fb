-- Terms: how a thing of the catalog is written, and what of it can be none.
--
-- A plan or a pack is one JSON object of terms: a term that is left out takes its default, a term
-- with a typo is refused, so a catalog file never says something that nobody hears. The functions
-- here read one term of one kind each.
--
-- They look at nothing but their arguments, and take no lock.

create or replace function pgsaas.check_terms(p_of text, p_terms jsonb, p_known text[])
returns void
language plpgsql immutable parallel safe
as $$
declare
    v_odd text;
begin
    if jsonb_typeof(p_terms) is distinct from 'object' then
        raise exception '% is a JSON object, not %', p_of, coalesce(jsonb_typeof(p_terms), 'null')
            using errcode = '22023';
    end if;
    select k into v_odd from jsonb_object_keys(p_terms) k
     where k <> all (p_known) order by k limit 1;
    if v_odd is not null then
        raise exception '% has no "%"', p_of, v_odd using errcode = '22023',
            hint = 'There are ' || array_to_string(p_known, ', ') || '.';
    end if;
end $$;
comment on function pgsaas.check_terms(text, jsonb, text[]) is
    'Raises 22023 for anything but a JSON object with known names.';

create or replace function pgsaas.term_text(p_terms jsonb, p_name text, p_default text default null)
returns text
language plpgsql immutable parallel safe
as $$
begin
    if jsonb_typeof(p_terms -> p_name) not in ('string', 'null') then
        raise exception '"%" must be a text, not %', p_name, p_terms -> p_name
            using errcode = '22023';
    end if;
    return coalesce(p_terms ->> p_name, p_default);
end $$;
comment on function pgsaas.term_text(jsonb, text, text) is
    'A term that is a text, or its default. Raises 22023 for another type.';

create or replace function pgsaas.term_number(
    p_terms jsonb, p_name text, p_least numeric, p_most numeric, p_places integer,
    p_default numeric default null)
returns numeric
language plpgsql immutable parallel safe
as $$
declare
    v_number numeric;
begin
    if not p_terms ? p_name then
        return p_default;
    elsif jsonb_typeof(p_terms -> p_name) = 'number' then
        v_number := (p_terms ->> p_name)::numeric;
    end if;
    if v_number is null or v_number not between p_least and p_most
       or v_number <> round(v_number, p_places) then
        raise exception '"%" must be a number from % to % with at most % decimals, not %', p_name,
            p_least, p_most, p_places, p_terms -> p_name using errcode = '22023';
    end if;
    return trim_scale(v_number);
end $$;
comment on function pgsaas.term_number(jsonb, text, numeric, numeric, integer, numeric) is
    'A term that is a number within bounds, or its default. Raises 22023 for anything else.';

create or replace function pgsaas.term_interval(
    p_terms jsonb, p_name text, p_most interval, p_default interval default null)
returns interval
language plpgsql immutable parallel safe
as $$
declare
    v_text constant text := pgsaas.term_text(p_terms, p_name);
    v_parts text[] := regexp_match(v_text, '^([0-9]{1,4}) (day|week|month|year)s?$');
    v_length interval;
begin
    if v_text is null then
        return p_default;
    elsif v_parts is not null then
        v_length := case v_parts[2]
            when 'day' then make_interval(days => v_parts[1]::integer)
            when 'week' then make_interval(weeks => v_parts[1]::integer)
            when 'month' then make_interval(months => v_parts[1]::integer)
            else make_interval(years => v_parts[1]::integer) end;
    end if;
    if v_length is null or v_length > p_most then
        raise exception '"%" must be a length such as "3 days", at most %, not "%"', p_name,
            p_most, v_text using errcode = '22023';
    end if;
    return v_length;
end $$;
comment on function pgsaas.term_interval(jsonb, text, interval, interval) is
    'A term that is a number of days, weeks, months or years, or its default. Raises 22023 for '
    'anything else.';

create or replace function pgsaas.check_no_rate(p_name text) returns void
language plpgsql immutable parallel safe
as $$
begin
    if starts_with(p_name, 'rate:') then
        raise exception 'the name "%" is that of a rate limit: {"limit", "per"} with second, '
            'minute, hour or day', p_name using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.check_no_rate(text) is
    'Raises 22023 for a feature or limit with the name of a rate limit.';

create or replace function pgsaas.check_features(p_features jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    v_odd record;
begin
    if jsonb_typeof(p_features) <> 'object' then
        raise exception '"features" is an object such as {"sso": true, "support": "email"}'
            using errcode = '22023';
    end if;
    select f.key, f.value into v_odd from jsonb_each(p_features) f
     where octet_length(f.key) not between 1 and 100
        or jsonb_typeof(f.value) not in ('boolean', 'string', 'number')
     order by f.key limit 1;
    if found then
        raise exception 'feature "%" is true, false, a text or a number, not %', v_odd.key,
            v_odd.value using errcode = '22023';
    end if;
    perform pgsaas.check_no_rate(f) from jsonb_object_keys(p_features) f;
    return p_features;
end $$;
comment on function pgsaas.check_features(jsonb) is
    'Features as they are stored. Raises 22023 for what can be none.';

-- Limits {name: 5}, {name: "unlimited"} or {name: {"limit": 5, "per": "period"}}; rate limits need
-- a per. No limit is stored as null.
create or replace function pgsaas.check_limits(p_name text, p_limits jsonb, p_per text[])
returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    v_limit record;
    v_checked jsonb := '{}'::jsonb;
    v_value jsonb;
begin
    if jsonb_typeof(p_limits) <> 'object' then
        raise exception '"%" is an object such as {"projects": 10}', p_name
            using errcode = '22023';
    end if;
    for v_limit in select l.key, l.value from jsonb_each(p_limits) l order by l.key loop
        v_value := case when jsonb_typeof(v_limit.value) = 'object' then v_limit.value
            else jsonb_build_object('limit', v_limit.value) end;
        perform pgsaas.check_terms(format('"%s" of "%s"', v_limit.key, p_name), v_value,
            '{limit,per}');
        if octet_length(v_limit.key) not between 1 and 100 or not v_value ? 'limit' then
            raise exception '"%" of "%" needs a "limit"', v_limit.key, p_name
                using errcode = '22023';
        elsif coalesce(v_value ->> 'per', '') <> all (p_per) then
            raise exception '"per" of "%" is %, not "%"', v_limit.key,
                array_to_string(array_remove(p_per, ''), ' or '), v_value ->> 'per'
                using errcode = '22023';
        elsif v_value -> 'limit' in ('"unlimited"', 'null') then
            v_value := v_value || '{"limit": null}';
        else
            perform pgsaas.term_number(v_value, 'limit', 0, 1000000000000, 6);
        end if;
        if '' = any (p_per) then
            perform pgsaas.check_no_rate(v_limit.key);
        end if;
        v_checked := v_checked || jsonb_build_object(v_limit.key, jsonb_strip_nulls(
            jsonb_build_object('per', v_value -> 'per'))
            || jsonb_build_object('limit', v_value -> 'limit'));
    end loop;
    return v_checked;
end $$;
comment on function pgsaas.check_limits(text, jsonb, text[]) is
    'Limits as they are stored. Raises 22023 for what can be none.';
