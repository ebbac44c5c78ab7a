"""The distribution API of a remote registry: the only package that knows HTTP."""
