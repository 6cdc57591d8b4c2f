"""The command: `regie-verify BUNDLE [--policy FILE] [--kept FILE ...] [--tsa FILE] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from regie_verify.checking import check
from regie_verify.notes import Unreadable

WHOLE, ALTERED, UNREADABLE = 0, 1, 2


def main() -> None:
    """Check a bundle and say what was found."""
    parser = argparse.ArgumentParser(
        prog="regie-verify",
        description="Check a bundle of Regie's audit log, offline.",
        epilog="Exit codes: 0 everything holds, 1 something was altered, 2 it cannot be read.",
    )
    parser.add_argument("bundle", type=Path, help="folder or zip file that `regie audit export` has written")
    parser.add_argument("--policy", type=Path, help="keys and witnesses that you trust; else those of the bundle")
    parser.add_argument("--kept", type=Path, action="append", default=[], help="a checkpoint you kept; may be repeated")
    parser.add_argument("--tsa", type=Path, help="PEM file of the timestamp authority that you trust")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args()
    try:
        policy = given.policy.read_text(encoding="utf-8") if given.policy else None
        tsa = given.tsa.read_bytes() if given.tsa else None
        report = check(given.bundle, policy, [file.read_text(encoding="utf-8") for file in given.kept], tsa)
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"regie-verify: {error}\n")
        sys.exit(UNREADABLE)
    sys.stdout.write((json.dumps(report.as_json(), indent=2) if given.json else report.as_text()) + "\n")
    sys.exit(WHOLE if report.is_whole else ALTERED)


if __name__ == "__main__":
    main()
