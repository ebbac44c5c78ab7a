"""The FUSE transports: the only package that imports pyfuse3, and that opens /dev/fuse."""
