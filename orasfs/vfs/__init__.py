"""The filesystem without FUSE: inodes, handles, namespaces and nodes over ports."""
