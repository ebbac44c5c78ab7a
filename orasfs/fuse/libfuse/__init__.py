"""The transport by pyfuse3 and libfuse, for whoever may not pass files through the kernel."""
