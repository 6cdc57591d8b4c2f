"""The page with the figures is what its generator makes of the kept JSON."""

from __future__ import annotations

import json

from bench.page import FIGURES, PAGE, STORM, page


def test_the_page_says_what_was_measured() -> None:
    bench, storm = (json.loads(file.read_text(encoding="utf-8")) for file in (FIGURES, STORM))
    assert PAGE.read_text(encoding="utf-8") == page(bench, storm), "Run: python -m bench.page"
