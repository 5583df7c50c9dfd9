"""What the book computes with the library: a result store, half-blind worlds, data sets, features, the protocol."""
