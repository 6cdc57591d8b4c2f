"""Certificates in a folder of another machine, over SFTP."""
