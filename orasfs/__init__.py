"""orasfs mounts OCI registries as directories."""
