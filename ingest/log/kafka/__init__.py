"""The event log in Apache Kafka, through kafka-python: what a production's size needs.

log        the `EventLog`: opened by settings, counted, trimmed
topic      the topic, made with stated partitions, copies, retention and sizes, and checked
producer   appends: idempotent, acks=all, bounded in time, refused at once while the broker is away
reader     one member of the consumer group: polls in a thread of its own
connect    kafka-python's clients, opened whole or not at all
inbox      pure: the bounded hand-over from that thread, and which partitions flow
"""
