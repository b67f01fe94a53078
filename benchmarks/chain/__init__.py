"""What `chain_overhead` runs: the DAGs, the job, and the same four steps by hand."""
