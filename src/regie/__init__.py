"""Regie: workflows that plan changes in outside systems, ask the right people, make the changes and prove them."""
