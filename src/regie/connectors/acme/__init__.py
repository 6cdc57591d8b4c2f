"""Certificates from any authority that speaks ACME, such as Let's Encrypt."""
