"""Server plumbing shared by every service: it knows gRPC and no business word."""
