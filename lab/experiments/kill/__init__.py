"""`slimwire lab kill`: real processes, one of them killed again and again; is anything lost, or done twice?

- `fleet` the devices: keys, frames and patience of real ones, many in one process;
- `air` how their fragments travel: ZEP over UDP, or MQTT;
- `tap` between gateway and edge server: counts what is answered, and can be cut;
- `stepped` a service whose time of day steps; `site` the processes; `run` the experiment.
"""
