"""The error for a misspelt keyword argument, which names the argument that the caller probably meant."""

from collections.abc import Iterable


def unknown_keyword(function: str, name: str, known: Iterable[str], remedy: str = "") -> TypeError:
    """Return the error for a keyword argument that does not exist.

    Args:
        function: The name of the function.
        name: The name of the argument.
        known: The names of the arguments that exist.
        remedy: Replaces the suggestion.
    """
    if not remedy:
        from difflib import get_close_matches  # imported here: few programs need it

        similar = get_close_matches(name.lower(), list(known), 1)
        remedy = f"did you mean {similar[0]!r}?" if similar else ""
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}{remedy and f': {remedy}'}")
