"""Pages for people in a browser: what runs and ran, what waits for an answer, what can be done. HTML made here."""
