-- What parties outside say about checkpoints of the anchor log: a timestamp token (DER, RFC 3161), or the receipt of a
-- deposit (JSON). No tenant: it stands for all of them. Nothing here is secret: it is what auditors get.
create table audit.attestation (
    kind text not null check (kind in ('timestamp', 'deposit')),
    party text not null,
    anchor_size bigint not null,
    proof bytea not null check (octet_length(proof) <= 65536),
    at timestamptz not null default clock_timestamp(),
    primary key (kind, party, anchor_size)
);
create trigger attestation_only_grows before update or delete or truncate on audit.attestation
    for each statement execute function audit.refuse_change();

-- How it stands with each party that the notary asks now, witnesses among them. `failing_since` is null while it answers;
-- `is_broken` when it holds another history than ours.
create table audit.attester (
    kind text not null check (kind in ('witness', 'timestamp', 'deposit')),
    party text not null,
    anchor_size bigint not null default 0,
    done_at timestamptz,
    failures integer not null default 0,
    failing_since timestamptz,
    is_broken boolean not null default false,
    reason text not null default '',
    primary key (kind, party),
    check ((failing_since is null) = (failures = 0))
);
