"""Signed notes: what is written can be read, and nothing that was changed counts as signed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regie.core.errors import InvalidInput
from regie.core.signed_note import Checkpoint, KeyKind, Signature, SignedNote, SigningKey, VerifierKey

KEY = SigningKey(bytes(range(32)))
ORIGIN = "audit.example/acme/identity"
BODY = Checkpoint(ORIGIN, 5, bytes(32)).body
WITNESS = "witness.example"


def note() -> SignedNote:
    return SignedNote(BODY).with_signatures(KEY.sign(BODY, ORIGIN), KEY.cosign(BODY, WITNESS, 1_800_000_000))


def test_a_note_and_its_keys_survive_being_written_and_read() -> None:
    assert SignedNote.parse(str(note())) == note()
    assert Checkpoint.parse(BODY) == Checkpoint(ORIGIN, 5, bytes(32))
    for key in (KEY.verifier(ORIGIN), KEY.verifier(WITNESS, KeyKind.WITNESS)):
        assert VerifierKey.parse(str(key)) == key
        assert key.has_signed(note())


def test_a_known_key_has_the_text_form_of_the_specification() -> None:
    """The key of Go's checksum database, as every Go program has it."""
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert str(VerifierKey.parse(text)) == text


@settings(deadline=None)
@given(st.integers(0, len(BODY.encode()) - 1), st.integers(1, 255))
def test_a_changed_text_is_not_signed(at: int, by: int) -> None:
    changed = bytearray(BODY.encode())
    changed[at] ^= by
    text = changed.decode(errors="replace")
    other = replace(note(), text=text)
    assert text == BODY or not KEY.verifier(ORIGIN).has_signed(other)
    assert text == BODY or not KEY.verifier(WITNESS, KeyKind.WITNESS).has_signed(other)


@settings(deadline=None)
@given(st.integers(0, 71), st.integers(1, 255))
def test_a_changed_cosignature_does_not_count_its_time_included(at: int, by: int) -> None:
    line = KEY.cosign(BODY, WITNESS, 1_800_000_000)
    value = bytearray(line.value)
    value[at] ^= by
    changed = SignedNote(BODY, (replace(line, value=bytes(value)),))
    assert not KEY.verifier(WITNESS, KeyKind.WITNESS).has_signed(changed)


def test_another_key_another_name_and_another_kind_do_not_count() -> None:
    assert not SigningKey(bytes(32)).verifier(ORIGIN).has_signed(note())
    assert not KEY.verifier("audit.example/acme/hr").has_signed(note())
    assert not KEY.verifier(ORIGIN, KeyKind.WITNESS).has_signed(note())


@pytest.mark.parametrize(
    "text",
    ["", "one line", "no signatures\n\n", "text\n\nno dash\n", f"{BODY}\n\N{EM DASH} name AAAA\n", f"{note()}more"],
)
def test_what_is_no_note_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        SignedNote.parse(text)


@pytest.mark.parametrize("text", ["", "name", "name+0+", "name+00000000+AQ==", f"x{KEY.verifier(ORIGIN)}"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "body", ["", "name\n", "name\nfive\nAAAA\n", "name\n-1\nAAAA\n", "name\n05\nAAAA\n", "a\n1\n!\n"]
)
def test_what_is_no_checkpoint_is_refused(body: str) -> None:
    with pytest.raises(InvalidInput):
        Checkpoint.parse(body)


@settings(deadline=None)
@given(st.text())
def test_whatever_is_read_as_a_note_never_breaks_the_reader(text: str) -> None:
    for read in (SignedNote.parse, Checkpoint.parse, VerifierKey.parse, Signature.parse):
        try:
            read(text)
        except InvalidInput:
            continue
