"""Stores: where envelopes and the lease live. `base` defines a store, `rules` what its verbs do."""
