"""The list of commands, in the order in which somebody new needs them."""

import typer

from control_api.cli import (
    agent,
    commands,
    curation,
    doctor,
    exporting,
    forgetting,
    health,
    integrity,
    machine,
    run,
    shipping,
    simulating,
    sources,
)
from control_api.cli import keys as access
from control_api.cli.asking import asking
from control_api.cli.options import Version
from control_api.cli.output import Commands

MACHINE = "On the machine"
DATA_IN = "Data in"
RUN = "A run"
CURATION = "What a run draws"

# A filter may begin with a minus: "-task:open_browser" is no option.
FILTER_ARGUMENT = {"ignore_unknown_options": True, "help_option_names": ["--help"]}

app = typer.Typer(
    name="stovetop",
    cls=Commands,
    help="Keeps a deployed model learning from what people do with it.",
    epilog="Start here: stovetop demo. Or: stovetop up --data DIR, and follow what it says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(name="keys", help="API keys.", no_args_is_help=True)
database = typer.Typer(name="db", help="The database's schema.", no_args_is_help=True)
senders = typer.Typer(name="sources", help="Who sends, and who is let in.", no_args_is_help=True)
forget = typer.Typer(
    name="forget", help="Take what somebody sent out of everything.", no_args_is_help=True
)
slices = typer.Typer(name="slices", help="Named filters over the buffer.", no_args_is_help=True)
mixes = typer.Typer(name="mixes", help="Shares over slices, versioned.", no_args_is_help=True)


@app.callback()
def _of_itself(version: Version = False) -> None:
    """Options of the command itself."""


app.command("demo", rich_help_panel=MACHINE)(machine.demo)
app.command("up", rich_help_panel=MACHINE)(machine.up)
app.command("train", rich_help_panel=MACHINE)(machine.train)
app.command("sign-in", rich_help_panel=MACHINE)(access.sign_in)
app.add_typer(keys, rich_help_panel=MACHINE)
app.command("audit", rich_help_panel=MACHINE)(access.audit)
app.command("doctor", rich_help_panel=MACHINE)(doctor.doctor)
app.command("verify", rich_help_panel=MACHINE)(integrity.verify)
app.command("backup", rich_help_panel=MACHINE)(integrity.backup)
app.command("restore", rich_help_panel=MACHINE)(integrity.restore)
app.add_typer(database, rich_help_panel=MACHINE)
keys.command("create")(access.create_key)
keys.command("list")(access.list_keys)
keys.command("revoke")(access.revoke_key)
database.command("upgrade")(machine.upgrade_database)

app.command("ship", rich_help_panel=DATA_IN)(shipping.ship)
app.command("simulate", rich_help_panel=DATA_IN)(simulating.simulate)
app.add_typer(senders, rich_help_panel=DATA_IN)
senders.command("list")(sources.list_sources)
senders.command("release")(sources.release)
senders.command("withdraw")(sources.withdraw)
senders.command("redact")(sources.redact)
app.add_typer(forget, rich_help_panel=DATA_IN)
forget.command("user")(forgetting.forget_user)
forget.command("session")(forgetting.forget_session)
forget.command("list")(forgetting.list_tombstones)

app.command("runs", rich_help_panel=RUN)(run.runs)
app.command("commands", rich_help_panel=RUN)(commands.commands)
app.command("health", rich_help_panel=RUN)(health.health)
app.command("lr", rich_help_panel=RUN)(asking(run.lr))
app.command("optimizer", rich_help_panel=RUN)(asking(run.optimizer))
app.command("mix", rich_help_panel=RUN)(asking(run.mix))
app.command("freeze", rich_help_panel=RUN)(asking(run.freeze))
app.command("unfreeze", rich_help_panel=RUN)(asking(run.unfreeze))
app.command("pause", rich_help_panel=RUN)(asking(run.pause))
app.command("resume", rich_help_panel=RUN)(asking(run.resume))
app.command("stop", rich_help_panel=RUN)(asking(run.stop))
app.command("save", rich_help_panel=RUN)(asking(run.save))
app.command("rollback", rich_help_panel=RUN)(asking(run.rollback))
app.command("evaluate", rich_help_panel=RUN)(asking(run.evaluate))
app.command("undo", rich_help_panel=RUN)(asking(run.undo))
app.command("agent", rich_help_panel=RUN)(agent.agent)
app.command("cancel", rich_help_panel=RUN)(run.cancel)
app.command("approve", rich_help_panel=RUN)(asking(commands.approve))
app.command("refuse", rich_help_panel=RUN)(commands.refuse)

app.add_typer(slices, rich_help_panel=CURATION)
app.add_typer(mixes, rich_help_panel=CURATION)
slices.command("set", context_settings=FILTER_ARGUMENT)(curation.set_slice)
slices.command("list")(curation.list_slices)
mixes.command("set")(curation.set_mix)
mixes.command("list")(curation.list_mixes)
app.command("export", rich_help_panel=CURATION)(exporting.export)
