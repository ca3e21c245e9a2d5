"""What Prometheus reads: one registry per server, so that several can live in one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The counters of one edge server. Names and labels are stable."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.items = Counter("slimwire_edge_items", "Latents by verdict", ["verdict"], registry=self.registry)
        self.refused = Counter(
            "slimwire_edge_refused", "Requests refused, by reason", ["reason"], registry=self.registry
        )
        self.images = Counter("slimwire_edge_images", "Images classified", registry=self.registry)
        self.widths = Counter(
            "slimwire_edge_next_width", "Widths told to devices", ["width"], registry=self.registry
        )
        self.batch_items = Histogram(
            "slimwire_edge_batch_items",
            "Latents per batch",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "slimwire_edge_batch_seconds",
            "Time to answer one batch, waiting left out",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
            registry=self.registry,
        )
        self.waiting = Gauge("slimwire_edge_waiting_batches", "Batches that wait", registry=self.registry)
        self.devices = Gauge("slimwire_edge_devices", "Devices heard since the start", registry=self.registry)
        self.enrolled = Gauge("slimwire_edge_enrolled", "Devices in the registry", registry=self.registry)
