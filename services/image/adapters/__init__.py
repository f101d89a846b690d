"""What the service talks to: its schema in Postgres, and the gallery."""
