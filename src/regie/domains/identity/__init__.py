"""Who may sign in and reach what: joining, changing and leaving."""
