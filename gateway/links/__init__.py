"""Links, each a file: `zep` is one; `faulty` and `pcap` wrap any."""
