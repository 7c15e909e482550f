"""Replay: actions in, frames and labelled changes out.

`environment` is the contract, `drawn` the desktop in pure Python, `tasks` names what people did.
"""
