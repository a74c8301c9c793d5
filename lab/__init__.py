"""The embedded model's laboratory: its training data, its network, its training and export."""
