"""One stream: bytes in, engine, answers out, snapshots. Knows no sockets and no protobuf."""
