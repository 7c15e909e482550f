"""Simulated people: what they do, how their hands move, and the events that come of it.

weights     tasks of a day: OLD_SKILLS, FRESH, and mixes of two
hand        moves, clicks and keys as timed log lines
sight       where on the screen things are that can be clicked
person      tasks, and the slips beside them
sessions    whole sessions and their wire events
post        sends them through the SDK
"""

from ingest.simulate.hand import COMPACT, NATURAL, Pace, SimulatedAction
from ingest.simulate.sessions import simulate_session, simulated_users, wire_events
from ingest.simulate.weights import FRESH, OLD_SKILLS, TaskWeights, mixed

__all__ = [
    "COMPACT",
    "FRESH",
    "NATURAL",
    "OLD_SKILLS",
    "Pace",
    "SimulatedAction",
    "TaskWeights",
    "mixed",
    "simulate_session",
    "simulated_users",
    "wire_events",
]
