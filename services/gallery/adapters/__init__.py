"""How the gallery talks to the world: Postgres, Blob Storage, decoders, the disk."""
