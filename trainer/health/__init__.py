"""What is wrong with a run, named, and a policy file's answers to it.

reading, window          what is judged: the numbers of one step; the steps before it
loss, detectors          pure: each signal's definition, with its source
signals                  pure: signals start and end
watch, rows              beside the journal: into SQL with the steps that they come of
policy, answers          a file of rules: which command answers which signal, how often
"""
