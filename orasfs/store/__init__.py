"""Local content-addressable storage: OCI image layouts, the cache, unpacked layers."""
