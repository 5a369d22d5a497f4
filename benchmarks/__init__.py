"""What a fleet sees, measured side by side: real processes, a real Redis, the real SDK and a stand-in for PostHog.

    python -m benchmarks cold_start --rounds 3

See README.md here for the questions and for what the figures do not say.
"""
