"""What the gallery decides, without gRPC, SQL or storage."""
