"""Certificates: watched, renewed and put in place before they expire."""
