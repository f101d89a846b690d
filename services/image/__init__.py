"""The image service: generation with GPT-Image and its kin, paid once, stored in the gallery."""
