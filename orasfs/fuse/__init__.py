"""The FUSE transport: the only package that imports pyfuse3."""
