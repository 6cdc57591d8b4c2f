"""Records at name servers that take signed updates."""
