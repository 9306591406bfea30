"""From an address on the web to the arrays of three splits."""
