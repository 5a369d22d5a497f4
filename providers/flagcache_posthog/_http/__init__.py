"""The fleet's own HTTP request: sent within a deadline, and its response read within a size."""
