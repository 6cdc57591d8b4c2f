"""Certificates as a whole: ordered at a real authority, through the real gateway, and put in place."""
