"""Verified, restorable states of a whole run.

hf_state    a Trainer's state into a folder and back, in Hugging Face's own layout
folder      files behind a manifest with their checksums, whole or not there
register    which there are, in memory
retention   which stay: automatic ones go when newer ones have come
"""
