"""The gateway: an Envoy configuration rendered from the contract's descriptor set."""
