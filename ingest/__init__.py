"""Data in: what people did with the deployed model becomes verified samples in the buffer.

A datum's way through this folder, top to bottom:

client, ship     how production sends: the SDK and the log shipper
receive          the endpoint: checks, then answers 202 once the event log has it
log/             the event log: embedded (SQLite), one small interface
consume          events into SQL, the log's offset in the same transaction
sessions         pure: where a session is cut into episodes; cut: the stage that does it
replay/          episodes replayed in a desktop, frame by frame
shards, buffer   lossless frames in WebDataset tars, their SQL index and its revisions
filters, slices  which samples: the filter language, named slices, versioned mixes

Never imports torch: a frame is a picture, what a model makes of it is trainer's.
"""
