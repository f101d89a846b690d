"""Pictures drawn by a program from the words of a prompt. Pure and synchronous: callers run it in a worker thread.

`palettes` chooses colours, `scenes` composes a picture, `subjects` draws the thing it is about, `editing` works on
pictures that were sent in, `label` marks every result as emulated, `encoding` makes the file.
"""
