"""The error for a misspelt keyword argument, which names the argument that the caller probably meant."""

from collections.abc import Iterable


def similar_to(name: str, known: Iterable[str]) -> str:
    """Return the known name that a misspelt one probably means; empty if all are other words."""
    from difflib import get_close_matches  # imported here: few programs need it

    # The default of 0.6 takes "cache" for "trace".
    return "".join(get_close_matches(name, list(known), 1, 0.7))


def unknown_keyword(function: str, name: str, known: Iterable[str], remedy: str = "") -> TypeError:
    """Return the error for a keyword argument that does not exist.

    Args:
        function: The name of the function.
        name: The name of the argument.
        known: The names of the arguments that exist.
        remedy: Replaces the suggestion.
    """
    if not remedy:
        similar = similar_to(name.lower(), known)
        remedy = f"did you mean {similar!r}?" if similar else ""
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{remedy and f': {remedy}'}")
