"""Verified, restorable states of a whole run.

copies           a state's tensors into memory that is there already, and back
hf_state         a Trainer's state into a folder and back, in Hugging Face's own layout
folder, seals    files behind a manifest with their checksums, whole or not there
places, exchange tensors read beside the live ones, verified, and then in their place
register         which there are, in memory
retention        which stay: automatic ones go when newer ones have come
"""
