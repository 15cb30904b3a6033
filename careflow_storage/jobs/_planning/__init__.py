"""Planning of key ranges: pure, without requests of its own."""
