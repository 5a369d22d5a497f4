"""How does a fleet of 10 to 10,000 workers fare in a day? A simulation in virtual time, from event to event."""
