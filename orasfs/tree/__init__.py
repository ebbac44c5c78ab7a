"""What an artifact looks like as files: views of manifests and indexes of layers; pure."""
