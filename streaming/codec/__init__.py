"""Audio as a few kilobits: quantisers, packets, transport, files, and the two tasks of a codec."""
