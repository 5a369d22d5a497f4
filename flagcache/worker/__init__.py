"""One process's part in its fleet: polls, fetches, publishes, and what runs in the background."""
