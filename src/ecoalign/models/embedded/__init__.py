"""The embedded model: a small vision-language transformer that knows one synthetic world."""
