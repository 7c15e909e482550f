"""`stovetop demo`: the whole line on one machine, told as it happens, and checked from outside.

machine   a fresh installation under `stovetop up`, its keys and its API
use       what people do: bundled logs shipped, simulated users through the SDK
story     the acts, in order
checks    pure: did every command hold, did the rollback repeat exactly
verdict   the numbers before and after, and which promises held
"""
