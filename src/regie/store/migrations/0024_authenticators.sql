-- What people confirm with that they agree: public keys of their authenticators (Web Authentication Level 2). The count of
-- uses, which an authenticator tells each time, only goes up: one that goes back has been copied.
create table regie.authenticator (
    id text primary key check (id ~ '^[A-Za-z0-9_-]+$' and length(id) <= 1366),
    address text not null references regie.account on update cascade on delete cascade,
    name text not null,
    public_key bytea not null,
    sign_count bigint not null check (sign_count >= 0),
    added_at timestamptz not null default clock_timestamp(),
    used_at timestamptz
);
create index authenticator_of on regie.authenticator (address, added_at);

-- Questions to authenticators that nobody has answered yet; each counts once, for one person, and for a while. Without an
-- approval it is one to add an authenticator.
create table regie.challenge (
    sha256 text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    address text not null references regie.account on update cascade on delete cascade,
    approval uuid,
    nonce text not null,
    asked_at timestamptz not null default clock_timestamp()
);
create index challenge_asked on regie.challenge (asked_at);

-- What was signed when a plan was agreed to, sealed. The leaf of the decision has its SHA-256.
create table regie.assertion (
    tenant text not null,
    domain text not null,
    approval uuid not null,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    content bytea not null,
    primary key (tenant, domain, approval)
);
call regie.wall_in('regie.assertion');
