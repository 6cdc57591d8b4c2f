-- Data keys of tenants and domains, wrapped under a key of the domain that is not in the database. `uses` counts what was
-- sealed under one, as its processes tell now and then; the newest version seals, the others open what they have sealed.
create table regie.data_key (
    tenant text not null,
    domain text not null,
    version integer not null check (version > 0),
    wrapped bytea not null,
    uses bigint not null default 0,
    made_at timestamptz not null default clock_timestamp(),
    primary key (tenant, domain, version)
);
call regie.wall_in('regie.data_key');
