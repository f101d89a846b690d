"""What language models do for the services: each module makes a `Task` and reads its answer; none calls anything.

`enhance`, `protect`, `filenames` and `analyze` are the tasks; `flattener` prepares pictures that a model is to look at.
"""
