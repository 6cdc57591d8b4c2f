"""Records in hosted zones of Route 53."""
