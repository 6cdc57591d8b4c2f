"""The main job as a whole: real processes, a real database, the imaginary outside world as oracle."""
