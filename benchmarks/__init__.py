"""What a fleet sees, compared with other providers: real processes, a real Redis, the real SDK, a PostHog stand-in.

    python -m benchmarks cold_start --rounds 3

README.md in this folder lists the questions and the limits of the figures.
"""
