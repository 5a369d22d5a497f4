"""Stores: where envelopes and the lease live. `base` says what a store is, `rules` what its verbs do."""
