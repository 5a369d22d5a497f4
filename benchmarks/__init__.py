"""What a fleet sees, measured and simulated, beside the alternatives."""
