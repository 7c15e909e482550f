"""Integrity: are the files what the index says, and is the index whole? And what mends either.

finding        what is wrong, with the fix
shards         rows of shards against their files: checksums, and every byte range
files          files against rows: what nothing names
rows           rows against rows: events, episodes, samples, sessions, counters
repair         each finding's mend: what can be made anew is queued for whoever makes it

Nothing here holds the write lock for longer than one finding's mend.
"""
