"""The transport straight on /dev/fuse: the kernel's protocol, without a library between."""
