"""The capabilities Regie knows, one module per noun. A capability here is a promise to every domain and connector."""
