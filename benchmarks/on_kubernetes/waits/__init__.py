"""What `kubernetes_waits` runs: a job by either side, and what makes many waiting tasks out of one."""
