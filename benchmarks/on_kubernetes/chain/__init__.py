"""What `kubernetes_chain` runs: the DAGs of both sides, and the same steps by hand."""
