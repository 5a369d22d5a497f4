"""The contestants: each creates the client of one worker, as an application with this provider would.

All get the same addresses, keys and intervals; the module of a contestant says what else it sets. This package imports
nothing, so a process can import one contestant without the others. `fleet` starts their processes, in which `worker`
runs; `function` is the program of a short-lived process, and `fresh` starts it.
"""
