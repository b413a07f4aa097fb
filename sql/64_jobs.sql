-- Jobs: work of agents for credits, authorized and paid before it begins.
--
-- authorize_agent() answers whether an account may do this, and what it will cost, in this order:
-- SUBSCRIPTION_INACTIVE, PLAN_REQUIRED, AGENT_NOT_ALLOWED, INSUFFICIENT_CREDITS, DEDUCTION_FAILED.
-- start_job() asks the same under the account's lock and holds the cost; 65_job_ends says what
-- becomes of it. A job whose worker has died is abandoned when its hold lapses: nobody has to
-- notice.
--
-- Lock rule: the account's row of the ledger first, then its job.

create or replace function pgsaas.authorize_for(
    p_b pgsaas.account_balances, p_agent_id text, p_cost numeric, p_required_plan text,
    out error_code text, out error_message text, out cost numeric, out plan_id text,
    out required_plan text, out agent_id text, out action text)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_s constant pgsaas.subscriptions := pgsaas.subscription_at(p_b.account_id,
        greatest(pgsaas.now(), p_b.last_at));
    v_agent pgsaas.agents;
    v_rank integer;
    v_needed record;
begin
    agent_id := split_part(p_agent_id, '.', 1);
    action := nullif(substr(p_agent_id, length(agent_id) + 2), '');
    select * into v_agent from pgsaas.agents a where a.agent_id = split_part(p_agent_id, '.', 1);
    plan_id := v_s.plan_id;
    select v.rank into v_rank from pgsaas.plan_versions v
     where v.plan_id = v_s.plan_id and v.version = v_s.plan_version;
    select p.plan_id, v.rank into v_needed
      from unnest(array[v_agent.plan_id, p_required_plan]) n (id)
      join pgsaas.plans p on p.plan_id = lower(n.id)
      join pgsaas.plan_versions v on v.plan_id = p.plan_id and v.version = p.version
     order by v.rank desc limit 1;
    required_plan := v_needed.plan_id;
    cost := coalesce(p_cost, (v_agent.actions ->> action)::numeric, v_agent.credits);
    if p_required_plan is not null and not exists (
            select from pgsaas.plans p where p.plan_id = lower(p_required_plan)) then
        raise exception 'there is no plan "%"', p_required_plan using errcode = '22023';
    elsif pgsaas.gives_access(v_s.status) is not true then
        error_code := 'SUBSCRIPTION_INACTIVE';
        error_message := coalesce('the subscription is ' || v_s.status, 'there is no subscription');
    elsif v_rank < v_needed.rank then
        error_code := 'PLAN_REQUIRED';
        error_message := format('the plan "%s" is required, the account has "%s"',
            v_needed.plan_id, v_s.plan_id);
    elsif v_agent.agent_id is null then
        error_code := 'AGENT_NOT_ALLOWED';
        error_message := format('there is no agent "%s"', agent_id);
    elsif v_agent.availability <> 'available' then
        error_code := 'AGENT_NOT_ALLOWED';
        error_message := format('the agent "%s" is %s', agent_id, case v_agent.availability
            when 'soon' then 'not available yet' else 'disabled' end);
    elsif v_s.plan_id = any (v_agent.excluded_plans) then
        error_code := 'AGENT_NOT_ALLOWED';
        error_message := format('the plan "%s" does not include the agent "%s"', v_s.plan_id,
            agent_id);
    elsif pgsaas.available(p_b) < cost then
        error_code := 'INSUFFICIENT_CREDITS';
        error_message := format('not enough credits: %s needed, %s available', trim_scale(cost),
            trim_scale(pgsaas.available(p_b)));
    elsif p_b.is_frozen then
        error_code := 'DEDUCTION_FAILED';
        error_message := 'the account is frozen';
    end if;
end $$;
comment on function pgsaas.authorize_for(pgsaas.account_balances, text, numeric, text) is
    'Whether an account, as it is at its own time, may use an agent, and what that costs. 22023 '
    'for a plan that there is not.';

create or replace function pgsaas.check_cost(p_cost numeric) returns void
language plpgsql immutable parallel safe
as $$
begin
    if p_cost <> 0 then
        perform pgsaas.check_amount(p_cost, 'cost');
    end if;
end $$;
comment on function pgsaas.check_cost(numeric) is
    'Raises 22023 for a cost that is neither 0 nor an amount. Null passes.';

create or replace function pgsaas.authorize_agent(
    p_account_id uuid, p_agent_id text, p_cost numeric default null,
    p_required_plan text default null)
returns table (success boolean, error_code text, error_message text, cost numeric,
    available numeric, plan_id text, required_plan text)
language plpgsql stable security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_found record;
begin
    perform pgsaas.check_cost(p_cost);
    if pgsaas.may(p_account_id, 'read') then
        select * into v_b from pgsaas.account_balances b where b.account_id = p_account_id;
    end if;
    success := false;
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_b := pgsaas.project_account(v_b);
    v_found := pgsaas.authorize_for(v_b, p_agent_id, p_cost, p_required_plan);
    success := v_found.error_code is null;
    error_code := v_found.error_code;
    error_message := v_found.error_message;
    cost := v_found.cost;
    available := pgsaas.available(v_b);
    plan_id := v_found.plan_id;
    required_plan := v_found.required_plan;
    return next;
end $$;
comment on function pgsaas.authorize_agent(uuid, text, numeric, text) is
    'Whether an account may use an agent (agent, or agent.action) now, and what it costs: p_cost, '
    'else what the agent asks. p_required_plan may ask for a higher plan than the agent does. '
    'SUBSCRIPTION_INACTIVE, PLAN_REQUIRED, AGENT_NOT_ALLOWED, INSUFFICIENT_CREDITS, '
    'DEDUCTION_FAILED (frozen), in this order; ACCOUNT_NOT_FOUND. It only looks: start_job() asks '
    'again, and knows spend caps. 22023 for a wrong cost or plan.';

-- What ended before this month counts for no cap: it is left to whoever touches it.
create or replace function pgsaas.abandon_jobs(p_account_id uuid, p_at timestamptz) returns void
language plpgsql volatile
as $$
declare
    v_job pgsaas.jobs;
begin
    if not exists (select from pgsaas.spend_caps c where c.account_id = p_account_id) then
        return;
    end if;
    for v_job in
        select j.* from pgsaas.jobs j
          left join pgsaas.credit_holds h
            on h.account_id = j.account_id and h.hold_id = j.hold_id
         where j.account_id = p_account_id and j.job_status = 'running'
           and (h.state = 'captured' and h.closed_at >= date_trunc('month', p_at, 'UTC')
               or j.created_at >= date_trunc('month', p_at, 'UTC')
               and j.expires_at <= p_at and coalesce(h.expires_at <= p_at, true))
    loop
        perform pgsaas.settle_job(p_account_id, v_job.job_id);
    end loop;
end $$;
comment on function pgsaas.abandon_jobs(uuid, timestamptz) is
    'Lets jobs of a locked account whose time is over count no more for its spend caps, and those '
    'whose hold was captured at what that took.';

create or replace function pgsaas.start_job(
    p_account_id uuid, p_agent_id text, p_type text default null, p_input jsonb default null,
    p_cost numeric default null, p_required_plan text default null,
    p_ttl interval default '15 minutes', p_key_name text default null,
    p_idempotency_key text default null)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, job_id uuid, hold_id bigint, cost numeric,
    expires_at timestamptz)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_b pgsaas.account_balances;
    v_job pgsaas.jobs;
    v_found record;
    v_full text;
begin
    perform pgsaas.check_cost(p_cost);
    perform pgsaas.check_request(p_idempotency_key, null, p_type, p_agent_id);
    perform pgsaas.check_request(null, p_input);
    perform pgsaas.check_ttl(p_ttl);
    if octet_length(p_key_name) not between 1 and 255 then
        raise exception 'a key''s name has 1 to 255 bytes' using errcode = '22023';
    end if;
    success := false;
    replayed := false;
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    if v_b.account_id is null then
        error_code := 'ACCOUNT_NOT_FOUND';
        error_message := 'no such account';
        return next;
        return;
    end if;
    v_job.request_hash := pgsaas.request_hash(p_agent_id, p_type, p_input::text,
        trim_scale(p_cost)::text, lower(p_required_plan), extract(epoch from p_ttl)::text,
        p_key_name);
    select * into v_job.job_id from (
        select j.job_id from pgsaas.jobs j
         where j.account_id = p_account_id and j.idempotency_key = p_idempotency_key) x;
    if v_job.job_id is not null then
        if not exists (select from pgsaas.jobs j
                        where j.account_id = p_account_id and j.job_id = v_job.job_id
                          and j.request_hash = v_job.request_hash) then
            perform pgsaas.raise_key_conflict(p_idempotency_key);
        end if;
        select true, true, j.balance_after, j.job_id, j.hold_id, h.amount, j.expires_at
          into success, replayed, new_balance, job_id, hold_id, cost, expires_at
          from pgsaas.jobs j
          left join pgsaas.credit_holds h on h.account_id = j.account_id and h.hold_id = j.hold_id
         where j.account_id = p_account_id and j.job_id = v_job.job_id;
        cost := coalesce(cost, 0);
        available := pgsaas.available(pgsaas.project_account(v_b));
        return next;
        return;
    end if;
    v_b := pgsaas.project_account(v_b);
    v_found := pgsaas.authorize_for(v_b, p_agent_id, p_cost, p_required_plan);
    new_balance := v_b.balance;
    available := pgsaas.available(v_b);
    error_code := v_found.error_code;
    error_message := v_found.error_message;
    cost := v_found.cost;
    if error_code = 'INSUFFICIENT_CREDITS' and pgsaas.is_shadow() then
        error_code := case when v_b.is_frozen then 'DEDUCTION_FAILED' end;
        error_message := case when v_b.is_frozen then 'the account is frozen' end;
    end if;
    v_job.created_at := greatest(pgsaas.now(), v_b.last_at);
    v_job.subjects := jsonb_strip_nulls(jsonb_build_object('account', '', 'agent', v_found.agent_id,
        'member', pgsaas.current_user_id(), 'key', p_key_name));
    if error_code is null then
        perform pgsaas.abandon_jobs(p_account_id, v_job.created_at);
        v_full := pgsaas.spend_within_caps(p_account_id, v_job.subjects, cost, v_job.created_at);
        if v_full is not null then
            error_code := 'DEDUCTION_FAILED';
            error_message := v_full;
        end if;
    end if;
    if error_code is not null then
        return next;
        return;
    end if;
    success := true;
    job_id := gen_random_uuid();
    expires_at := v_job.created_at + pgsaas.exact_interval(p_ttl);
    if cost > 0 then
        select h.new_balance, h.available, h.hold_id, h.expires_at
          into strict new_balance, available, hold_id, expires_at
          from pgsaas.hold_credits(p_account_id, cost, p_ttl, job_id, v_found.agent_id, p_type) h
         where h.success;
    end if;
    insert into pgsaas.jobs (account_id, job_id, job_type, agent_id, action, plan_id,
        plan_required, job_status, cost_credits, hold_id, expires_at, balance_after, subjects,
        created_at, input, idempotency_key, request_hash)
    values (p_account_id, job_id, p_type, v_found.agent_id, v_found.action, v_found.plan_id,
        v_found.required_plan, 'running', cost, hold_id, expires_at, new_balance, v_job.subjects,
        v_job.created_at, p_input, p_idempotency_key,
        case when p_idempotency_key is not null then v_job.request_hash end);
    return next;
end $$;
comment on function pgsaas.start_job(uuid, text, text, jsonb, numeric, text, interval, text, text)
    is
    'Starts a job of an agent, or agent.action: asks what authorize_agent() asks, under the '
    'account''s lock, and holds the cost until it is completed or fails, at most for p_ttl '
    '(extend_hold() is the heartbeat). p_input is an object of at most 16 kB, p_key_name the name '
    'of an API key, for its spend cap. The codes of authorize_agent(), DEDUCTION_FAILED for a '
    'spend cap, too. With a key it has one effect, ever; PT409, 22023.';

create or replace function pgsaas.store_job(p_job pgsaas.jobs) returns void
language sql volatile
as $$
    update pgsaas.jobs j
       set job_status = p_job.job_status, cost_credits = p_job.cost_credits,
           asked_credits = p_job.asked_credits, seq = p_job.seq,
           expires_at = p_job.expires_at, balance_after = p_job.balance_after,
           ended_at = p_job.ended_at, output = p_job.output, error = p_job.error
     where j.account_id = p_job.account_id and j.job_id = p_job.job_id
$$;
comment on function pgsaas.store_job(pgsaas.jobs) is 'Writes a changed job of a locked account.';

create or replace function pgsaas.recount_job(
    p_job pgsaas.jobs, p_was numeric, p_at timestamptz)
returns void
language plpgsql volatile
as $$
begin
    if p_job.cost_credits > p_was then
        perform pgsaas.count_spend(p_job.account_id, p_job.subjects, p_job.cost_credits - p_was,
            p_at, p_job.ended_at, p_job.seq);
    else
        perform pgsaas.uncount_spend(p_job.account_id, p_job.subjects,
            p_was - p_job.cost_credits, p_at, p_job.created_at, p_job.hold_id);
    end if;
end $$;
comment on function pgsaas.recount_job(pgsaas.jobs, numeric, timestamptz) is
    'Lets the spend caps count what a job came to instead of what it held: more was spent when it '
    'ended, less was never spent.';

create or replace function pgsaas.settle_job(
    p_account_id uuid, p_job_id uuid, out p_job pgsaas.jobs, out p_hold pgsaas.credit_holds,
    out p_at timestamptz)
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances;
    v_asked numeric;
begin
    v_b := pgsaas.lock_for(p_account_id, 'spend');
    p_at := greatest(pgsaas.now(), v_b.last_at);
    select * into p_job from pgsaas.jobs j
     where j.account_id = v_b.account_id and j.job_id = p_job_id;
    if not found then
        perform pgsaas.raise_not_found('job');
    end if;
    select * into p_hold from pgsaas.credit_holds h
     where h.account_id = p_account_id and h.hold_id = p_job.hold_id;
    p_job.expires_at := coalesce(p_hold.expires_at, p_job.expires_at);
    if p_job.job_status = 'running' and p_hold.state = 'captured' then
        v_asked := p_job.cost_credits;
        select -t.amount, t.seq, t.balance_after
          into p_job.cost_credits, p_job.seq, p_job.balance_after
          from pgsaas.credit_transactions t
         where t.account_id = p_account_id and t.hold_id = p_hold.hold_id
           and t.transaction_type = 'capture';
        p_job.cost_credits := coalesce(p_job.cost_credits, v_asked);    -- its row is archived
        p_job.balance_after := coalesce(p_job.balance_after, v_b.balance);
        p_job.job_status := 'completed';
        p_job.ended_at := p_hold.closed_at;
        perform pgsaas.store_job(p_job);
        perform pgsaas.recount_job(p_job, v_asked, p_at);
    elsif p_job.job_status = 'running' and p_job.expires_at <= p_at then
        p_job.job_status := 'abandoned';
        p_job.ended_at := p_job.expires_at;
        perform pgsaas.store_job(p_job);
        perform pgsaas.uncount_spend(p_account_id, p_job.subjects, p_job.cost_credits, p_at,
            p_job.created_at, p_job.hold_id);
    end if;
end $$;
comment on function pgsaas.settle_job(uuid, uuid) is
    'Locks the account and returns a job with its hold; completed, if somebody captured that, or '
    'abandoned, if its time is over. PT404.';
