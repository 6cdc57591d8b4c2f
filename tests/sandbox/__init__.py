"""Tests of the imaginary outside world."""
