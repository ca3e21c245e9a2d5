"""The edge server: opens sealed latents, runs the tail on any widths in a batch, answers, and chooses widths.

- `ingest`: one batch in, one batch out; `devices`: what is known of each device's last message;
- `store`: what was answered; `tails`: the models; `width`: the controller; `enrolled`: the registry, live;
- `api.create_app`: the HTTP service; `settings`: its schema; `cli`: the `slimwire edge` commands.
"""
