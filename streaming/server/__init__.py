"""The server: settings, who may come in, the service over all streams, and its gRPC face."""
