"""Chat completions: what comes in, what goes out."""
