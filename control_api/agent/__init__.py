"""The agent: it steers a run through the public API alone, as a person with a key would.

observation   what one look at a run shows
look          pure HTTP: a look, a command, and waiting for steps
trouble       pure: what is wrong with a run, from an observation
rules         pure: the rule-based twin, observations -> the next action; it needs no model
steer         the loop of look and act, for the rules
tools         the commands as tools of a language model, from their schema
chat          an OpenAI-compatible endpoint, with patience that ends
prompt        what the model is told; what comes from the run is marked as data
dialogue      the loop of look and act, for a language model
transcript    every exchange, a line of JSON each

No torch, no database. What its key may do is enforced by the server, not here. No result of a
language model is claimed: figures come from the rules, and the dialogue is tested against a
scripted endpoint.
"""
