"""What one process of Python needs: identity, clock, forks, threads. Knows nothing of fleets."""
