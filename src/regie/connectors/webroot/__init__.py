"""Proofs for http-01 in a folder that a web server shows."""
