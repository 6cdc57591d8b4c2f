"""Tests of the walls between tenants and domains."""
