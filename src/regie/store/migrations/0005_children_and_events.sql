-- A run may be the child of another run of its tenant and domain. The lineage names the steps that lead to it from the
-- outermost run, each as workflow:place, so that what two children mean for one ticket is told apart. Nobody waits for a
-- detached one.
alter table regie.run
    add column parent uuid,
    add column parent_place text not null default '',
    add column lineage text[] not null default '{}',
    add column detached boolean not null default false,
    add constraint run_parent_fkey foreign key (tenant, domain, parent) references regie.run;
create index run_children on regie.run (tenant, domain, parent) where parent is not null;

-- Events from outside: each once by its id, kept for a while, so that a wait that begins after the event finds it.
-- routed_at is set when everybody who waited for it has it.
create table regie.event (
    tenant text not null,
    domain text not null,
    id text not null,
    name text not null,
    data bytea not null,
    data_sha256 text not null,
    marks text[] not null,
    published_by jsonb not null,
    arrived_at timestamptz not null default clock_timestamp(),
    routed_at timestamptz,
    primary key (tenant, domain, id)
);
-- What any worker of a domain brings to those who wait, and what is old, over all tenants of the domain.
create index event_unrouted on regie.event (domain, arrived_at) where routed_at is null;
create index event_age on regie.event (domain, arrived_at);

-- One row for each mark of an event: a digest of its name and of one field with its value.
create table regie.event_mark (
    tenant text not null,
    domain text not null,
    mark text not null,
    arrived_at timestamptz not null,
    event text not null,
    primary key (tenant, domain, mark, arrived_at, event),
    foreign key (tenant, domain, event) references regie.event on delete cascade
);
create index event_mark_of on regie.event_mark (tenant, domain, event);

-- Steps that wait for an event: all marks must be the event's, and one of them is looked up.
create table regie.event_wait (
    tenant text not null,
    domain text not null,
    run uuid not null,
    place text not null,
    name text not null,
    mark text not null,
    marks text[] not null,
    primary key (tenant, domain, run, place),
    foreign key (tenant, domain, run) references regie.run
);
create index event_awaited on regie.event_wait (tenant, domain, mark);
