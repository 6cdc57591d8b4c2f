"""What every route that only shows something has in common."""

from __future__ import annotations

from typing import Final

LOOKING: Final = ["GET", "HEAD"]
"""Methods that never change anything."""
