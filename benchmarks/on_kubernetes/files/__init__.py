"""What `kubernetes_files` runs: one job for each file, by both sides."""
