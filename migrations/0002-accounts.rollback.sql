set local role pgsaas_owner;
drop table if exists pgsaas.erased_subjects, pgsaas.attachments, pgsaas.outbox_messages, pgsaas.audit_events,
    pgsaas.platform_admins, pgsaas.account_members, pgsaas.account_external_ids, pgsaas.accounts, pgsaas.settings;
