"""People and agents in charge: the HTTP API, the page, the command line and the supervisor.

app               the FastAPI app; a module a noun: runs, commands, metrics, slices, samples ...
paging, borders   what all lists, and what all requests, have in common
page              the plain page at `/`
serve, supervise  the API process, and all of one machine's processes
remote, cli/      a small client of the API, and the `stovetop` command
demo/             `stovetop demo`

Everything here reads and writes SQL; it never imports torch, so it starts in a moment and any
process of it can die.
"""
