-- Agents: what does work for credits, as data.
--
-- An agent names the plan it needs, what an action of it costs, and whether it can be used yet. The
-- price is where a hold begins (64_jobs); what the work cost in the end is charged when it is done.
-- An agent that is taken away is disabled, never deleted: jobs name it.
--
-- Lock rule: the agent's row, nothing else; of two that meet, the one that began first loses
-- (40001).

create or replace function pgsaas.set_agent(
    p_agent_id text, p_terms jsonb, p_reason text default null)
returns table (agent_id text, changed boolean)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := pgsaas.now();
    v_was pgsaas.agents;
    v_new pgsaas.agents;
    v_name text;
begin
    perform pgsaas.check_administers();
    perform pgsaas.check_request(null, null, p_reason);
    perform pgsaas.check_terms(format('agent "%s"', p_agent_id), p_terms,
        '{name,description,plan,excluded_plans,credits,actions,availability}');
    if p_agent_id is null or p_agent_id !~ '^[a-z0-9][a-z0-9_-]{0,99}$' then
        raise exception 'an agent''s id has 1 to 100 small letters, digits, _ and -, not "%"',
            p_agent_id using errcode = '22023';
    elsif jsonb_typeof(p_terms -> 'actions') <> 'object'
          or jsonb_typeof(p_terms -> 'excluded_plans') <> 'array' then
        raise exception '"actions" is an object such as {"generate": 15}, "excluded_plans" a list '
            'of plans' using errcode = '22023';
    end if;
    for v_name in select k from jsonb_object_keys(coalesce(p_terms -> 'actions', '{}')) k loop
        if octet_length(v_name) not between 1 and 100 then
            raise exception 'an action''s name has 1 to 100 bytes' using errcode = '22023';
        end if;
        perform pgsaas.term_number(p_terms -> 'actions', v_name, 0, 1000000000000, 6);
    end loop;
    v_new.agent_id := p_agent_id;
    v_new.name := pgsaas.term_text(p_terms, 'name', p_agent_id);
    v_new.description := pgsaas.term_text(p_terms, 'description');
    v_new.plan_id := pgsaas.term_text(p_terms, 'plan');
    v_new.excluded_plans := array(
        select distinct x from jsonb_array_elements_text(
            coalesce(p_terms -> 'excluded_plans', '[]')) x order by x);
    v_new.credits := pgsaas.term_number(p_terms, 'credits', 0, 1000000000000, 6, 0);
    v_new.actions := coalesce(p_terms -> 'actions', '{}');
    v_new.availability := pgsaas.term_text(p_terms, 'availability', 'available');
    v_new.created_at := v_now;
    v_new.changed_at := v_now;
    select x.id into v_name from unnest(v_new.plan_id || v_new.excluded_plans) x (id)
     where x.id is not null
       and not exists (select from pgsaas.plans p where p.plan_id = x.id and p.version > 0);
    if found then
        raise exception 'there is no plan "%"', v_name using errcode = '22023';
    elsif octet_length(v_new.name) not between 1 and 100
          or octet_length(v_new.description) > 4096 then
        raise exception 'a name has 1 to 100 bytes, a description at most 4096'
            using errcode = '22023';
    elsif v_new.availability not in ('available', 'soon', 'disabled') then
        raise exception '"availability" is available, soon or disabled, not "%"',
            v_new.availability using errcode = '22023';
    end if;
    insert into pgsaas.agents select v_new.* on conflict do nothing;
    changed := found;
    if not changed then
        select * into v_was from pgsaas.agents a where a.agent_id = p_agent_id
            for no key update;
        changed := to_jsonb(v_was) - '{created_at,changed_at}'::text[]
            <> to_jsonb(v_new) - '{created_at,changed_at}'::text[];
        if changed and v_was.changed_at > v_now then
            raise exception 'somebody else has changed the agent "%" meanwhile', p_agent_id
                using errcode = '40001';
        end if;
        update pgsaas.agents a
           set name = v_new.name, description = v_new.description, plan_id = v_new.plan_id,
               excluded_plans = v_new.excluded_plans, credits = v_new.credits,
               actions = v_new.actions, availability = v_new.availability,
               changed_at = v_now
         where a.agent_id = p_agent_id and changed;
    end if;
    if changed then
        perform pgsaas.audit('agent.changed', null, jsonb_build_object('agent', p_agent_id,
            'terms', p_terms, 'reason', p_reason));
    end if;
    agent_id := p_agent_id;
    return next;
end $$;
comment on function pgsaas.set_agent(text, jsonb, text) is
    'Makes an agent or changes it. Terms: name, description, plan (the one whose rank is needed; '
    'none if left out), excluded_plans, credits (what an action costs, 0), actions {name: '
    'credits} for those with a price of their own, availability (available, soon or disabled). '
    '22023 for wrong terms, 40001 when somebody changed it meanwhile. Audited.';

create or replace function pgsaas.list_agents(p_include_disabled boolean default false)
returns table (agent_id text, name text, description text, plan_id text, excluded_plans text[],
    credits numeric, actions jsonb, availability text)
language sql stable
as $$
    select a.agent_id, a.name, a.description, a.plan_id, a.excluded_plans, a.credits, a.actions,
           a.availability
      from pgsaas.agents a
     where a.availability <> 'disabled' or p_include_disabled
     order by a.agent_id
$$;
comment on function pgsaas.list_agents(boolean) is
    'The agents that can be used or will be soon; with p_include_disabled the others, too.';
