output "notification_channels" {
  description = "Names of the channels that alerts go to."
  value       = local.channels
}
