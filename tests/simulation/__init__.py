"""Whole fleets of the real engine in one thread, with a virtual clock and a record of the truth."""
