"""People and agents in charge: the HTTP API, the page, the command line and one machine's supervisor.

Everything here reads and writes SQL; it never imports torch, so it starts in a moment and any
process of it can die.
"""
