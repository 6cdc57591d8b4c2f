-- What domains keep about things from run to run. The key in clear is a digest: what it says is sealed with the value.
-- `former` is what the row held before the step `put_by` put it, so that a repeat of that step tells the same.
create table regie.record (
    tenant text not null,
    domain text not null,
    kind text not null,
    key text not null,
    state text not null,
    due_at timestamptz,
    value bytea not null,
    former bytea,
    put_by text not null,
    first_at timestamptz not null default clock_timestamp(),
    put_at timestamptz not null default clock_timestamp(),
    primary key (tenant, domain, kind, key)
);
-- Pages show a kind of all tenants, what is due first.
create index record_due on regie.record (domain, kind, due_at, tenant, key);
