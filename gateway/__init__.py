"""The gateway: trusts nobody by default, and hands only whole, authenticated messages to the edge server.

- `receiver` what a frame goes through, with `events` (what it came to), `peers` (what is remembered of a
  device), `admission` (memory by identity), `reassembly` (one datagram), `early` (the shared pool), `ledger`
  (unauthenticated failures) and `reasons` (every name a drop is counted under): pure;
- `links` where frames come from; `outbox` what is in custody; `uplink` takes that to the edge servers, by a
  `bus`, in the order of its `lanes`, behind a `breaker`; `downlink` custody acks and answers to devices;
  `kept_trust` trust over restarts (`trust_file`: that of release 0.1), `explain` its changes in words;
- `service` ties these together; `admin` and `metrics` show it; `process.run(settings, verifier=…)` is all of
  it as one process, with `enrolment`, the `legs` that settings name (`embedded` a broker of its own, a
  `bounded_broker`), `live` what SIGHUP changes, and the `watchdog`;
- `settings` its schema, `check` whether a start would work, `install` and `unit` it as a service, `broker`
  mosquitto's files and a probe of it, `top` a live view, `cli` and `service_cli` the `slimwire gateway`
  commands.
"""
