output "ids" {
  description = "For DataprocCluster(autoscaling_policy=…)."
  value       = keys(google_dataproc_autoscaling_policy.this)
}
