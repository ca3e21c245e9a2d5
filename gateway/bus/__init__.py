"""Ways to an edge server. Another one comes as another module with a class that is a `base.Bus`."""
