"""What all rooms share: files, provenance, tables, command lines."""
