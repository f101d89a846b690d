"""Everything that puts the suite on a machine."""
