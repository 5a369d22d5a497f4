"""Decisions, without I/O: the theory of operation on one page.

Each process has a *worker*. The workers of a namespace are a fleet and share a *store*. A worker polls the store; the
store is the only place where the fleet's state is, and each of its verbs is atomic. The modules here decide what a
worker asks and what follows from a reply. `flagcache.stores.rules` decides what the store does.

Lease. The store gives the lease to one worker, the *leader* (leader election). A leader renews it with its polls, on a
timer if it has a listening thread, and every second while it fetches (heartbeat). If it stops, the lease expires and
another worker takes it. Leading is not enough to fetch.

Grant. Only a grant permits a fetch. The store gives a grant to the leader when the fleet's last grant is a refresh
interval old. Its `as_of` is a fencing token: the store's clock, and always above every earlier `as_of`. Definitions
carry the `as_of` of the grant with which they were fetched, never the time when the response was read.

Order. (epoch, `as_of`) orders definitions. A store accepts only newer ones (compare-and-set), and a worker adopts only
newer ones. So a worker that froze during its fetch cannot overwrite what was fetched or confirmed later. Only people
raise the epoch, with `flagcache clear`. An `as_of` is valid only on the clock of its own store. Between two stores the
age on this process's monotonic clock decides.

Who may fetch.

    leader, a fetch is due                     gets the grant
    deputy, 2 s after a fetch was due          gets lease and grant if the leader did not
    any worker, the lease is over              gets the lease, and the grant if one is due
    any worker, its last grant's reply lost    gets the same grant again
    worker whose own fetch failed              stays out until its back-off is over
    reader                                     never

Results of a fetch. Definitions are published. "Unchanged" confirms the stored ones, which moves their age. A failure
that concerns this worker alone gives up the lease; one that concerns all workers (402, 429, 5xx) is a *note* in the
store with the time of the next attempt.

Repair. If a poll shows that the store holds older definitions or none, the store asks one worker that holds newer ones
to publish them, with their own `as_of` (read repair). So an emptied, rolled back or replaced store is filled again.

Outage. Each store is behind a circuit breaker. While the fleet's store is down, the next store coordinates with the
same rules: a file for the processes of this machine, then this process's memory.

Notices are hints and polls are authoritative: a lost notice costs at most one poll interval.

Invariant: what a process knows is one immutable value (`knowledge.Knowledge`). A function here takes it, clock values
and a reply, and returns the next value. `flagcache.worker` stores it under its lock, and does the I/O outside it.

    knowledge         what a process knows; build a poll, apply a reply, adopt, repair
    schedule          what the background does next: renew, contend, fetch
    first_load        when a first load waits, and for what
    ageing            when definitions are stale
    notes             why the fleet's last fetch failed
    order             what is held, and what is newer, by the store or by signature
    troubles          when a lasting failure is reported again
    projects          which project definitions belong to
    circuit_breaker   when to probe a store that failed
    renewals          the lease of this process: renewed, extended, given up
    reply             what to do about a reply
    fetches           what the end of a fetch means
    notices           which notice counts, and what to do about it
    pushes            which pushes are made at once, and which later
    last_known_good   when to save to the fallback file, and what
    publication       what to write, and what follows from the store's verdict
    compatibility     old and new SDKs in one fleet
    token_bucket      how often something may happen
"""
