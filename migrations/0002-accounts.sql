-- Accounts and what surrounds them: external ids, members, settings, audit, outbox, attached host tables.
-- Longest lock: none beyond the new tables' own; nothing that exists is touched.
-- depends: 0001-installation

set local role pgsaas_owner;

-- One row. Written by set_setting() only, so that every change is checked and audited.
create table if not exists pgsaas.settings (
    is_only_row boolean not null default true,
    identity_realm text not null default '',
    clawback text not null default 'owed',
    transfer_scope text not null default 'organization',
    transfer_min_age interval not null default '14 days',
    default_burn_order text not null default 'purchased_first',
    default_low_balance_at numeric,
    constraint settings_pkey primary key (is_only_row),
    constraint settings_is_only_row_check check (is_only_row),
    constraint settings_clawback_check check (clawback in ('owed', 'unrecovered')),
    constraint settings_transfer_scope_check check (transfer_scope in ('organization', 'any')),
    constraint settings_identity_realm_check check (octet_length(identity_realm) <= 255),
    constraint settings_transfer_min_age_check
        check (transfer_min_age >= interval '0' and transfer_min_age <= interval '10 years'),
    constraint settings_default_burn_order_check
        check (default_burn_order in ('purchased_first', 'expiring_first')),
    constraint settings_default_low_balance_at_check
        check (default_low_balance_at >= 0 and default_low_balance_at <= 1000000000000
               and default_low_balance_at = round(default_low_balance_at, 6))
);
insert into pgsaas.settings default values on conflict do nothing;
alter table pgsaas.settings enable row level security;
comment on table pgsaas.settings is 'The settings of this installation: one row, changed by set_setting().';
comment on column pgsaas.settings.identity_realm is
    'Realm of external ids that a user''s claim (sub) is compared with; the first attached users table.';
comment on column pgsaas.settings.clawback is
    'What a revocation beyond free credits becomes: owed, or unrecovered (recorded on the grant).';

create table if not exists pgsaas.accounts (
    account_id uuid not null,
    kind text not null,
    name text,
    email text,
    profile jsonb not null default '{}',
    created_at timestamptz not null,
    erased_at timestamptz,
    constraint accounts_pkey primary key (account_id),
    constraint accounts_kind_check check (kind in ('user', 'organization')),
    constraint accounts_name_check check (octet_length(name) <= 1000),
    constraint accounts_email_check check (octet_length(email) <= 1000),
    constraint accounts_profile_check check (jsonb_typeof(profile) = 'object')
);
alter table pgsaas.accounts enable row level security;
comment on table pgsaas.accounts is 'The billed parties: users and organizations.';

-- Unique across accounts, so a table of its own, keyed by the id (a distributed accounts table could not
-- hold that rule); no foreign key for the same reason.
create table if not exists pgsaas.account_external_ids (
    realm text not null,
    external_id text not null,
    account_id uuid not null,
    constraint account_external_ids_pkey primary key (realm, external_id),
    constraint account_external_ids_external_id_check check (octet_length(external_id) between 1 and 255),
    constraint account_external_ids_realm_check check (octet_length(realm) <= 255)
);
create unique index if not exists account_external_ids_account_idx
    on pgsaas.account_external_ids (account_id);
alter table pgsaas.account_external_ids enable row level security;
comment on table pgsaas.account_external_ids is
    'The host''s own id of an account; unique per realm (the attached table, or '''').';

create table if not exists pgsaas.account_members (
    account_id uuid not null,
    user_id text not null,
    member_role text not null,
    created_at timestamptz not null,
    constraint account_members_pkey primary key (account_id, user_id),
    constraint account_members_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint account_members_user_id_check check (octet_length(user_id) between 1 and 255),
    constraint account_members_role_check check (member_role in ('owner', 'admin', 'billing', 'member'))
);
create index if not exists account_members_user_idx on pgsaas.account_members (user_id, account_id);
alter table pgsaas.account_members enable row level security;
comment on table pgsaas.account_members is 'Who acts for an account, and as what. A user account''s own user needs no row.';

create table if not exists pgsaas.platform_admins (
    user_id text not null,
    added_at timestamptz not null,
    constraint platform_admins_pkey primary key (user_id),
    constraint platform_admins_user_id_check check (octet_length(user_id) between 1 and 255)
);
alter table pgsaas.platform_admins enable row level security;
comment on table pgsaas.platform_admins is
    'Users whose claims count under pgsaas_admin. Only the owner writes it; no claim makes an admin.';

create table if not exists pgsaas.audit_events (
    audit_event_id bigint generated always as identity,
    account_id uuid,
    created_at timestamptz not null,
    actor text not null,
    action text not null,
    details jsonb not null default '{}',
    constraint audit_events_pkey primary key (audit_event_id)
);
create index if not exists audit_events_account_idx on pgsaas.audit_events (account_id, audit_event_id);
alter table pgsaas.audit_events enable row level security;
comment on table pgsaas.audit_events is
    'Every act of an admin and every change of a role, a setting or a catalog, with the actor.';

create table if not exists pgsaas.outbox_messages (
    outbox_message_id bigint generated always as identity,
    account_id uuid not null,
    topic text not null,
    created_at timestamptz not null,
    payload jsonb not null,
    constraint outbox_messages_pkey primary key (outbox_message_id)
);
alter table pgsaas.outbox_messages enable row level security;
comment on table pgsaas.outbox_messages is
    'Facts for others (a balance got low, …), written in the transaction that made them true.';

create table if not exists pgsaas.attachments (
    realm text not null,
    relation regclass not null,
    relation_oid oid not null,
    id_column name not null,
    id_attnum smallint not null,
    email_column name,
    email_attnum smallint,
    attached_at timestamptz not null,
    constraint attachments_pkey primary key (realm)
);
create unique index if not exists attachments_relation_idx on pgsaas.attachments (relation);
alter table pgsaas.attachments enable row level security;
comment on table pgsaas.attachments is
    'Host tables whose rows are accounts. Columns are known by number, and by name after a dump was restored.';

create table if not exists pgsaas.erased_subjects (
    subject_hash bytea not null,
    erased_at timestamptz not null,
    constraint erased_subjects_pkey primary key (subject_hash)
);
alter table pgsaas.erased_subjects enable row level security;
comment on table pgsaas.erased_subjects is
    'Salted hashes of the ids and addresses of erased accounts: no second first allowance for them.';
