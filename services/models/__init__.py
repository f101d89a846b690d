"""Model access for the services that pay: registry, provider adapters, and the protocol that never pays twice."""
