"""What operators look at: metrics, logs, health and heartbeats."""
