"""What is in the cache: verified blobs by digest, and the room that they may take."""
