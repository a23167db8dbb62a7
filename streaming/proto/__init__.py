"""The wire's messages: ``ossicle.proto``, its stubs, and a lock of its field numbers."""
