"""A run on disk: durable files, the ledger, stages, chunks, and the directory that holds them."""
