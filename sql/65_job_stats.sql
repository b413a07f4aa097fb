-- What has become of jobs: lists and figures.
--
-- A job whose time is over is shown as abandoned, whoever has noticed: it is running only while its
-- hold is open. Everything here looks with the reader's rights, so row security decides which
-- accounts there are, and figures over all accounts are for the backend and staff. No locks.

create or replace function pgsaas.list_jobs(
    p_account_id uuid, p_status text default null, p_limit integer default 50,
    p_before timestamptz default null)
returns table (job_id uuid, job_type text, agent_id text, action text, job_status text,
    cost_credits numeric, plan_id text, plan_required text, created_at timestamptz,
    ended_at timestamptz, expires_at timestamptz, seq bigint, hold_id bigint, input jsonb,
    output jsonb, error text)
language plpgsql stable
as $$
begin
    if p_status is not null and p_status not in ('running', 'completed', 'failed', 'abandoned') then
        raise exception 'a job is running, completed, failed or abandoned, not "%"', p_status
            using errcode = '22023';
    elsif p_limit is null or p_limit not between 1 and 1000 then
        raise exception 'a limit is 1 to 1000, not %', p_limit using errcode = '22023';
    end if;
    return query
        select j.job_id, j.job_type, j.agent_id, j.action, j.job_status,
               j.cost_credits, j.plan_id, j.plan_required, j.created_at, j.ended_at,
               j.expires_at, j.seq, j.hold_id, j.input, j.output, j.error
          from pgsaas.current_jobs j
         where j.account_id = p_account_id and (p_status is null or j.job_status = p_status)
           and (p_before is null or j.created_at < p_before)
         order by j.created_at desc, j.job_id
         limit p_limit;
end $$;
comment on function pgsaas.list_jobs(uuid, text, integer, timestamptz) is
    'The jobs of an account, the newest first, of a status if one is given, from before a time. '
    '22023 for a wrong status or limit.';

create or replace function pgsaas.job_stats(
    p_account_id uuid default null, p_from timestamptz default null,
    p_to timestamptz default null, p_group_by text[] default '{agent}')
returns table (agent_id text, plan_id text, job_type text, jobs bigint, running bigint,
    completed bigint, failed bigint, abandoned bigint, success_rate numeric, credits numeric)
language plpgsql stable
as $$
begin
    if p_group_by is null or not p_group_by <@ '{agent,plan,type}' then
        raise exception 'jobs are grouped by agent, plan and type' using errcode = '22023';
    end if;
    return query
        select x.agent, x.plan, x.type, count(*),
               count(*) filter (where x.job_status = 'running'),
               count(*) filter (where x.job_status = 'completed'),
               count(*) filter (where x.job_status = 'failed'),
               count(*) filter (where x.job_status = 'abandoned'),
               round(count(*) filter (where x.job_status = 'completed')::numeric
                   / nullif(count(*) filter (where x.job_status <> 'running'), 0), 4),
               coalesce(sum(x.cost_credits) filter (where x.job_status = 'completed'), 0)
          from (select case when 'agent' = any (p_group_by) then j.agent_id end as agent,
                       case when 'plan' = any (p_group_by) then j.plan_id end as plan,
                       case when 'type' = any (p_group_by) then j.job_type end as type,
                       j.job_status, j.cost_credits
                  from pgsaas.current_jobs j
                 where (p_account_id is null or j.account_id = p_account_id)
                   and (p_from is null or j.created_at >= p_from)
                   and (p_to is null or j.created_at < p_to)) x
         group by x.agent, x.plan, x.type
         order by 10 desc, 4 desc, 1, 2, 3;
end $$;
comment on function pgsaas.job_stats(uuid, timestamptz, timestamptz, text[]) is
    'How many jobs began in a time, what became of them, the share of those that have ended which '
    'were completed, and what they cost: of an account, or of all that the caller may see; by '
    'agent, plan (that of the account when it began) and type, dearest first. 22023.';

create or replace function pgsaas.list_spend_caps(p_account_id uuid)
returns table (subject_kind text, subject text, cap numeric, cap_interval text, spent numeric,
    remaining numeric, counted_since timestamptz, resets_at timestamptz)
language plpgsql stable
as $$
begin
    return query
        select c.subject_kind, c.subject, c.cap, c.cap_interval, s.spent,
               greatest(0, c.cap - s.spent), greatest(c.period_start, t.starts_at), t.ends_at
          from pgsaas.spend_caps c
          join pgsaas.account_balances b on b.account_id = c.account_id
         cross join lateral (
               select date_trunc(c.cap_interval, greatest(pgsaas.now(), b.last_at), 'UTC')) d (day)
         cross join lateral (
               select d.day as starts_at, (d.day at time zone 'UTC'
                   + ('1 ' || c.cap_interval)::interval) at time zone 'UTC' as ends_at) t
         cross join lateral (    -- jobs that have ended, and nobody has noticed
               select coalesce(sum(j.cost_credits - x.cost_credits), 0) + case
                          when c.period_start >= t.starts_at then c.spent else 0 end as spent
                 from pgsaas.jobs x join pgsaas.current_jobs j using (account_id, job_id)
                where x.account_id = c.account_id and x.job_status = 'running'
                  and j.job_status <> 'running' and x.subjects ->> c.subject_kind = c.subject
                  and case when j.cost_credits > x.cost_credits
                      then j.ended_at >= t.starts_at and j.seq > c.since_seq
                      else x.created_at >= t.starts_at and x.hold_id > c.since_hold end) s
         where c.account_id = p_account_id
         order by array_position('{account,member,agent,key}', c.subject_kind), c.subject;
end $$;
comment on function pgsaas.list_spend_caps(uuid) is
    'The spend caps of an account, with what jobs have spent of each in the present day or month '
    '(UTC), running ones at what they hold, what is left, since when it counts, and until when.';
