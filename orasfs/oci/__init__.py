"""The words of the OCI specifications as frozen values, and the ports of a source; no I/O."""
