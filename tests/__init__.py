"""The tests. They are a package so that helpers can be imported as `tests.servers` from every folder."""
