"""What does a fleet of 10 to 10,000 workers cost in a day? A discrete-event simulation in virtual time."""
