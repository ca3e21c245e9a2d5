"""TLS to a broker, with a certificate of the device: files in DER beside device.json.

    ca.der        of the authority that signed the broker's certificate
    device.crt    this device's certificate, whose common name is its EUI-64
    device.key    its private key

The handshake blocks, for a second or two on a board. A board without a clock cannot tell an expired
certificate.
"""


def connect(sock, root, host):
    """Speak TLS on a connected socket from now on; the socket to use instead. OSError where it fails."""
    parts = []
    for name in ("ca.der", "device.crt", "device.key"):
        with open(root + name, "rb") as file:
            parts.append(file.read())
    try:
        import tls
    except ImportError:
        from ..standins import tls
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(parts[0])
    context.load_cert_chain(parts[1], parts[2])
    context.verify_mode = tls.CERT_REQUIRED
    sock.settimeout(20)
    made = context.wrap_socket(sock, server_hostname=host)
    made.setblocking(False)
    return made
