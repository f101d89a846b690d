"""What a generation is and the rules about it: plain data, no transport, no vendor."""
