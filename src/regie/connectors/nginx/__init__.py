"""nginx on a host: certificates of its TLS servers."""
