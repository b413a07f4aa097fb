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
               case j.job_status when 'abandoned' then 0 else j.cost_credits end, j.plan_id,
               j.plan_required, j.created_at, j.ended_at, j.expires_at, j.seq, j.hold_id, j.input,
               j.output, j.error
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
