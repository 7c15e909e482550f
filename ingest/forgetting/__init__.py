"""Forgetting: what a user, or one session, sent is taken out of everything, and stays out.

tombstones     who is forgotten, as hashes, and what may not come in for it
records        a log record without what is forgotten; pure
log            the event log, every record of it
rows           sessions, events, samples and dead letters
shards         shards, written anew without what is forgotten
forget         the whole, step by step, to be gone on with after any end
"""
