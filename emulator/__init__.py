"""A stand-in for a model provider: it speaks the OpenAI protocol on a real port, and keeps its own books.

It is the oracle of the suite's promise never to pay twice. It therefore shares no code with `services/` and imports
nothing from it: a mistake made there cannot be made here for the same reason. See README.md for what it speaks, what
it charges and which faults it can be told to have.
"""

__version__ = "0.1.0"
