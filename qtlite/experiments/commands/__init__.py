"""The commands of ``qtlite``, by topic.

A command is a function: its docstring is the help text, it declares the options, and it returns
what runs. Each imports what it needs when it is chosen, so that help needs none of it.
"""
