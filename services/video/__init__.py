"""The video service: jobs over the OpenAI Videos protocol, progress streams, analysis."""
