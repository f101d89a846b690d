"""The stack runner: the whole suite on one machine, without containers."""
