"""EcoAlign: economical inference-time alignment for vision-language models."""
