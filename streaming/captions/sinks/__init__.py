"""Where captions go: files, live segments, browsers."""
