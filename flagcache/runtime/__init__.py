"""Tools for one Python process: identity, clock, forks, threads. They know nothing of a fleet."""
