"""The networks, one family a file; every model takes raw uint8 images."""
