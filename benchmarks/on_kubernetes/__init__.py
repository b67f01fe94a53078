"""What the benchmarks on Kubernetes share, and in a folder for each the DAGs and programs that it runs."""
