"""Decisions, without I/O: what a process knows, what follows, what is due next."""
