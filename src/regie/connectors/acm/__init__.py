"""Certificates in AWS Certificate Manager."""
