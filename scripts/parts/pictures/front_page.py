"""The table of the front page: a line for each question of a user, with the best figure in bold."""

from typing import Any

# The workload of each question, and the loaders that the table names.
QUESTIONS = {
    "tiny batches/s": "tiny",
    "19 MB batches, GB/s": "image",
    "the same, created in place, GB/s": "image in place",
    "JPEG files decoded, images/s": "decode",
    "rows of tokens, tokens/s": "tokens",
    "requests of 10 ms, 4 per worker at once, requests/s": "program requests",
}
FIRST_BATCH = "first batch after a start, ms"
LOADERS = {
    "mpqueue": "mpqueue", "imap": "`Pool.imap`", "torch": "PyTorch", "keras threads": "Keras (threads)",
    "tf.data": "tf.data", "grain": "Grain", "spdl": "SPDL", "faster-fifo": "faster-fifo",
    "turboloader": "TurboLoader (threads)", "dataloader-rs": "dataloader-rs (threads)",
}  # fmt: skip


def lines(run: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of the table, without questions and loaders that were not measured."""
    rates = {(row["workload"], row["name"]): row["rate"] for row in run["rows"]}
    at = run["costs"][0].index("first batch")
    first = {line[1]: float(line[at].replace(",", "")) for line in run["costs"] if line[0] == "tiny"}
    figures = {text: {name: rates.get((workload, name)) for name in LOADERS} for text, workload in QUESTIONS.items()}
    figures[FIRST_BATCH] = {name: first.get(name) for name in LOADERS}
    known = [name for name in LOADERS if any(found[name] for found in figures.values())]
    table = []
    for text, found in figures.items():
        measured = [figure for figure in found.values() if figure]
        if measured:
            best = min(measured) if text == FIRST_BATCH else max(measured)
            table.append([text, *(_shown(found[name], found[name] == best) for name in known)])
    return ["", *(LOADERS[name] for name in known)], table


def _shown(figure: float | None, is_best: bool) -> str:
    if figure is None:
        return ""
    text = f"{figure:,.0f}" if figure >= 100 else f"{figure:g}"
    return f"**{text}**" if is_best else text
