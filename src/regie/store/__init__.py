"""The PostgreSQL store: the server itself, its migrations, and one module per subject that is kept in it."""
