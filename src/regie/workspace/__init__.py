"""Reads the shipped domains and the operator's workspace into one release. Used by the command line and the tests."""
