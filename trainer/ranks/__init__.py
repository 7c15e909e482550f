"""Several processes that train one run: rank 0 decides, the others do the same with it.

alone     what the run asks of its ranks, and the answer of one process: nothing to do
group     torchrun's processes on a process group of ours: the first, and the others
sharded   FSDP2: parameters in shards, whole again for a checkpoint
"""
