-- Errors and argument checks: what every room refuses, and in which words.
--
-- A state of the world is an answer (success = false, error_code); a wrong argument is an
-- exception. The classes are 22023 for arguments that can never be right, and PT403, PT404, PT409,
-- PT422, which PostgREST turns into the HTTP status of their digits. 40001 is a lost race: run the
-- transaction again.
--
-- Hot functions repeat the conditions of check_amount and check_request inline (a call costs 3 % of
-- a charge) and call these only to raise.

create or replace function pgsaas.check_amount(p_amount numeric, p_name text default 'amount')
returns numeric
language plpgsql immutable parallel safe
as $$
begin
    if p_amount is null or not (p_amount > 0 and p_amount <= 1000000000000)
       or p_amount <> round(p_amount, 6) then
        raise exception '% must be above 0, at most 10^12, with at most 6 decimals: %',
            p_name, coalesce(p_amount::text, 'null') using errcode = '22023';
    end if;
    return trim_scale(p_amount);
end $$;
comment on function pgsaas.check_amount(numeric, text) is
    'The amount without trailing zeros. Raises 22023 unless it is above 0, at most 10^12 and has '
    'at most 6 decimals; NaN is none of these.';

create or replace function pgsaas.check_request(
    p_key text, p_metadata jsonb, p_description text default null, p_agent_id text default null)
returns void
language plpgsql stable parallel safe
as $$
begin
    if octet_length(p_key) not between 1 and 255 then
        raise exception 'idempotency key must have 1 to 255 bytes, not %', octet_length(p_key)
            using errcode = '22023';
    elsif octet_length(p_metadata::text) > 16384 then
        raise exception 'metadata must not exceed 16384 bytes, not %',
            octet_length(p_metadata::text)
            using errcode = '22023';
    elsif jsonb_typeof(p_metadata) <> 'object' then
        raise exception 'metadata must be a JSON object, not %',
            jsonb_typeof(p_metadata) using errcode = '22023';
    elsif octet_length(p_description) > 4096 then
        raise exception 'description or reason must not exceed 4096 bytes, not %',
            octet_length(p_description)
            using errcode = '22023';
    elsif octet_length(p_agent_id) > 255 then
        raise exception 'agent id must not exceed 255 bytes, not %', octet_length(p_agent_id)
            using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.check_request(text, jsonb, text, text) is
    'Raises 22023 unless the key has 1 to 255 bytes, the metadata is an object of at most 16,384 '
    'bytes as stored, a description at most 4,096 and an agent id at most 255. Null passes.';

create or replace function pgsaas.check_reason(p_reason text) returns void
language plpgsql immutable parallel safe
as $$
begin
    if p_reason is null or p_reason !~ '\S' then
        raise exception 'a reason is required' using errcode = '22023';
    end if;
    perform pgsaas.check_request(null, null, p_reason);
end $$;
comment on function pgsaas.check_reason(text) is 'Raises 22023 unless a reason was given.';

create or replace function pgsaas.raise_key_conflict(p_key text) returns void
language plpgsql volatile parallel safe
as $$
begin
    raise exception 'idempotency key "%" was used for another request', p_key
        using errcode = 'PT409',
            hint = 'Use a new key for a new request; repeat a request with its own arguments.';
end $$;
comment on function pgsaas.raise_key_conflict(text) is 'Raises PT409.';

create or replace function pgsaas.raise_not_found(p_what text) returns void
language plpgsql volatile parallel safe
as $$
begin
    raise exception 'no such %', p_what using errcode = 'PT404';
end $$;
comment on function pgsaas.raise_not_found(text) is
    'Raises PT404. Unknown and foreign accounts are told alike.';

create or replace function pgsaas.check_limit(p_limit integer) returns void
language plpgsql immutable parallel safe
as $$
begin
    if p_limit < 1 then
        raise exception 'a limit is at least 1, not %', p_limit using errcode = '22023';
    end if;
end $$;
comment on function pgsaas.check_limit(integer) is
    'Raises 22023 for a limit below 1. Null, no limit, passes.';

-- An array's text form quotes and writes NULL, so two argument lists never collide; concat_ws
-- would. Callers pass numbers through trim_scale and times as epochs: no session setting may change
-- a hash.
create or replace function pgsaas.request_hash(variadic p_args text[]) returns bytea
language sql immutable parallel safe
as $$ select substring(pg_catalog.sha256(pg_catalog.convert_to(p_args::text, 'UTF8')) for 16) $$;
comment on function pgsaas.request_hash(text[]) is
    '16 bytes over a list of arguments: equal for equal lists whatever the session''s settings.';
