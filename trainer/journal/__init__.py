"""What a run did, in order, carried to SQL beside the loop by whoever holds the run.

lease, holder             one holder at a time, by a number that fences the one before it
entries, metrics          a step as taken, and its numbers
command_entries, lineage  what became of commands; checkpoints, branches, adoptions
journal                   the queue of entries and the thread that writes them
"""
