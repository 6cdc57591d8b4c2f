-- Accounts that an identity provider vouches for: issuer and subject name somebody for good (OpenID Connect Core 1.0, 2),
-- the address may change. They have no password here. Groups are those that the provider told last.
alter table regie.account
    alter column password_hash drop not null,
    alter column roles set default '{}',
    add column issuer text,
    add column subject text,
    add column groups text[] not null default '{}',
    add column is_active boolean not null default true,
    add constraint account_by_subject unique (issuer, subject),
    add check ((issuer is null) = (subject is null)),
    add check (password_hash is null or issuer is null);

-- An address that changes takes the sessions along. mfa_at: when a second factor was shown last in this session.
alter table regie.session
    drop constraint session_address_fkey,
    add foreign key (address) references regie.account on update cascade on delete cascade,
    add column mfa_at timestamptz;

-- Sign-ins that have gone to the identity provider and are not back yet. Nobody has signed in, so there is no account.
-- The verifier is sealed: with it and an answer that was overheard, somebody else could finish (RFC 7636).
create table regie.sign_in (
    state_sha256 text primary key check (state_sha256 ~ '^[0-9a-f]{64}$'),
    before_sha256 text not null,
    nonce text not null,
    verifier bytea not null,
    next text not null,
    begun_at timestamptz not null default clock_timestamp()
);
create index sign_in_begun on regie.sign_in (begun_at);
