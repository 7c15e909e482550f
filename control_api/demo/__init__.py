"""`stovetop demo`: the whole line on one machine, told as it happens, and checked from outside.

machine   a fresh installation under `stovetop up`, its keys and its API
use       what people do: bundled logs shipped, simulated people through the SDK
watch     a run as the API shows it
story     the acts, in order
checks    pure: did every command hold, did the rollback repeat exactly
verdict   the numbers before and after, and which promises held
show      what appears on the terminal and in the result file
"""

from control_api.demo.show import run_demo

__all__ = ["run_demo"]
