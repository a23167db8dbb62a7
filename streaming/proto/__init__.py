"""The wire's messages: ``ossicle.proto``, the stubs made from it, and a lock of its field numbers."""
