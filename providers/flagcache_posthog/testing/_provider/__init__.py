"""The cases of the provider contract, by topic."""
