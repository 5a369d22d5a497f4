"""Whole fleets of the real engine in one thread, under a virtual clock, with the truth kept beside them."""
