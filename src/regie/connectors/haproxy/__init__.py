"""HAProxy on a host: certificates of its TLS frontends."""
