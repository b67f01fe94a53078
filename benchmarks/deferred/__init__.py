"""What `waiting` runs: a DAG with real jobs, and what makes many waiting tasks out of one."""
