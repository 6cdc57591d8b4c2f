-- Tokens of programs that use the API. What a program shows is not kept, only its SHA-256. Its scope says where it counts;
-- empty stands for all tenants or domains, so no key begins with them. An owner who goes takes them along.
create table regie.api_token (
    id text primary key check (id ~ '^[0-9a-z]{12}$'),
    secret_sha256 text not null check (secret_sha256 ~ '^[0-9a-f]{64}$'),
    name text not null,
    scope_tenant text not null,
    scope_domain text not null,
    acts text[] not null,
    workflows text[] not null,
    owner text references regie.account on update cascade on delete cascade,
    made_by text not null,
    made_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    used_at timestamptz
);
create index api_token_of_owner on regie.api_token (owner, made_at desc);
