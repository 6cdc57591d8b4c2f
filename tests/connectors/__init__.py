"""Tests of the connectors, against recordings and against the imaginary outside world."""
