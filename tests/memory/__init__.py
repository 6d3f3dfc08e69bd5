"""The memory promise, under real limits: `make test-memory`."""
