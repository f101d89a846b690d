"""Looking into files that may be hostile: in processes of their own, with bounds on time and memory."""
