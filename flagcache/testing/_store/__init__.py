"""The cases of the store contract, by topic."""
