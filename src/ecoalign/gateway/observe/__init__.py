"""What an operator sees of the gateway: metrics, logs and traces."""
