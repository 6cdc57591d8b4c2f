-- The people whom leaves name by a commitment: salt and value, sealed under a key of the person's own. To erase somebody is to
-- destroy that key and both; the commitment stays in the leaves. `mark` finds a person again until then.
create table audit.subject (
    tenant text not null,
    domain text not null,
    subject text not null,
    mark bytea,
    wrapped bytea,
    sealed bytea,
    erased_at timestamptz,
    primary key (tenant, domain, subject),
    unique (tenant, domain, mark),
    check ((erased_at is null) = (mark is not null)),
    check (erased_at is null or (wrapped is null and sealed is null))
);
call regie.wall_in('audit.subject');
