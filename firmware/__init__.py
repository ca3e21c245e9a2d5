"""What runs on a device: MicroPython first, the same modules on CPython. README.md here is the guide."""
