"""Does a cheap experiment order strategies like an expensive one? One protocol on every rung."""
