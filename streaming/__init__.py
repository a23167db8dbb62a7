"""The service: wire, sessions, captions, codec transport, separation, command line."""
