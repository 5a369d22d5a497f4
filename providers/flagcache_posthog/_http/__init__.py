"""The fleet's own HTTP request, with a deadline and a limit for the size of the response."""
