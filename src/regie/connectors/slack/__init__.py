"""Slack: messages in channels and to people, and buttons that people press there."""
