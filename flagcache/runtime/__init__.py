"""What one Python process needs: identity, clock, forks, threads. Knows nothing of fleets."""
