"""What outside systems call things is shown on a terminal as it is, and nothing in it is obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape

from regie.cli import terminal
from regie.cli.terminal import Terminal, print_table, say
from regie.core.plan import Change

HIDING = "Sales\x1b[1A\x1b[2K"


@pytest.mark.parametrize("name", ["a [/b] b", "a \\[/b] b", "a\\", "[bold]", "\\[link=https://example.com]x[/link]"])
def test_a_name_is_never_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [(name,)], nothing="nothing")
    say(name)

    shown = capsys.readouterr()
    assert name in shown.out
    assert name in shown.err


@pytest.mark.parametrize("name", [HIDING, "Jan\u202enessnaJ", "a\rb", "a\x9bb", "a\ud800b"])
def test_a_name_does_not_steer_the_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [(name,)], nothing="nothing")

    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\u202e\r\x9b\ud800")
    assert "\N{REPLACEMENT CHARACTER}" in shown


@given(st.text())
def test_whatever_a_thing_is_called_it_can_be_shown(name: str) -> None:
    shown = Terminal(record=True, width=200, quiet=True).render_str(escape(name)).plain

    assert "\x1b" not in shown
    assert shown.count("[") == name.count("[")


def test_a_change_stays_on_one_line_whatever_its_target_is_called() -> None:
    change = Change(capability="identity.remove_from_group", target="x", title="A\n  = nothing else\u2028B", fields=())

    assert change.in_words().splitlines() == ["A = nothing else B: "]


@pytest.mark.parametrize("width", [30, 80, 100])
def test_what_is_copied_keeps_its_width_and_prose_folds_between_words(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "out", Terminal(width=width, highlight=False, soft_wrap=True))
    name, moment = "identity.offboard_employee_of_a_subsidiary", "2026-11-30 09:15:00"
    words = ["Offboard", "Johannes", "van", "den", "Berghe-Bartholomeus", "and", "hand", "over", "everything?"]
    rows = [("0123abcd", " ".join(words), name, "ana@example.com\nben@example.com", moment)]
    print_table(("id", "question", "workflow", "asked", "answer by"), rows, nothing="nothing", prose=("question",))

    shown = capsys.readouterr().out
    lines = shown.splitlines()
    for copied in ("answer by", "0123abcd", name, "ana@example.com", "ben@example.com", moment, *words):
        assert any(copied in line for line in lines), shown
    assert width > 30 or max(map(len, lines)) > width


def test_a_wide_terminal_folds_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal, "out", Terminal(width=200, highlight=False, soft_wrap=True))
    print_table(("event", "about"), [("step:finished", "access " * 20)], nothing="nothing")

    assert len(capsys.readouterr().out.splitlines()) == 2
