"""Jira Cloud, with the request types of Jira Service Management: tickets are issues, a queue is a project."""
