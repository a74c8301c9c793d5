"""HTTP/1.1 to an upstream, as lean as can be: one connection, and a pool of them."""
