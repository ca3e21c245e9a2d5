"""Width policies on logged links (`slimwire lab width`), trace-driven and paired.

`links` says how fast a link is when, `queue` what waits at the server, `requests` what becomes of each
request at each width; `policies` and `bounds` choose; `device` puts a policy, the ingest's rules and the
firmware's fallback together; `run`, `goodput` and `outage` are the experiments; `statistics`, `report` and
`plot` tell.
"""
