"""How runs start by themselves, with a real database."""
