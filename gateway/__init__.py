"""The gateway: trusts nobody by default, and hands only whole, authenticated messages to the edge server.

- `receiver` what a frame goes through, with `admission` (memory by identity), `reassembly` (one datagram),
  `early` (the shared pool), `ledger` (unauthenticated failures) and `reasons` (every name a drop is counted
  under): pure;
- `links` where frames come from; `uplink` batches to the edge server, of what is `waiting`; `downlink`
  answers to devices; `trust_file` trust over restarts, `explain` its changes in words;
- `service` ties these together; `admin` and `metrics` show it; `process.run(settings, verifier=…)` is all of
  it as one process, with `enrolment` and `notify`;
- `settings` its schema, `unit` its systemd unit, `cli` the `slimwire gateway` commands.
"""
