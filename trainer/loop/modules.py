"""A model's modules by name: which of them commands may name, and whose parameters are whose.

In: a model, and names as `named_modules` gives them. Out: modules and parameters. Parameters count
by identity, so that one that two modules share belongs to both. Guaranteed: the names of any set of
parameters, found by `names_of`, name exactly this set again.
"""

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet

from torch import nn

from trainer.commands.references import CommandRefused


def find_modules(
    model: nn.Module, names: Iterable[str], allowed: Collection[str] | None
) -> dict[str, nn.Module]:
    """Modules by name. Raises CommandRefused naming those that are unknown or not `allowed`."""
    known = dict(model.named_modules())
    del known[""]
    may_be_named = known if allowed is None else known.keys() & allowed
    unknown = [name for name in names if name not in may_be_named]
    if unknown:
        wanted = ", ".join(repr(name[:80]) for name in unknown)
        raise CommandRefused("modules", f"no module to be changed is called {wanted}")
    return {name: known[name] for name in names}


def trained_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that training moves."""
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


def names_of(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[str]:
    """The largest modules that consist of these parameters, and parameters that are left, sorted.

    Parameters that are not trained don't count.
    """
    return sorted(_covering(model, "", {id(parameter) for parameter in parameters}))


def parameters_named(model: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    """The trained parameters that `names_of` gave the names of."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[int, nn.Parameter] = {}
    for name in names:
        named = trained_parameters(modules[name]) if name in modules else (parameters[name],)
        found |= {id(parameter): parameter for parameter in named}
    return list(found.values())


def _covering(module: nn.Module, name: str, wanted: AbstractSet[int]) -> Iterator[str]:
    trained = {id(parameter) for parameter in trained_parameters(module)}
    if not trained & wanted:
        return
    if name and trained <= wanted:
        yield name
        return
    prefix = f"{name}." if name else ""
    for child_name, parameter in module.named_parameters(recurse=False):
        if id(parameter) in wanted:
            yield prefix + child_name
    for child_name, child in module.named_children():
        yield from _covering(child, prefix + child_name, wanted)
