-- Certificates that were issued for keys of ours. Chains are public; the keys are in the vault, under the same reference.
create table regie.certificate (
    tenant text not null,
    domain text not null,
    reference text not null,
    serial text not null,
    chain text not null,
    not_after timestamptz not null,
    kept_at timestamptz not null default clock_timestamp(),
    primary key (tenant, domain, reference)
);
create index certificate_by_serial on regie.certificate (tenant, domain, serial);
