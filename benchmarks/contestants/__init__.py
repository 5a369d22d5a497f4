"""Who is compared: each makes the client of one worker, as an application of its kind would.

All are given the same addresses, keys and intervals; what else a contestant sets is said in its module. This package
imports nothing, so that a process can import one contestant without the others.
"""
