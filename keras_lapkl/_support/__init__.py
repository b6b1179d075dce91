"""What all rooms share: files in and out, threads, provenance, tables, command lines."""
