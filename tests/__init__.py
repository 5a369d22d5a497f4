"""The tests. They are a package so that helpers can be imported as `tests.support.servers` from every folder."""
