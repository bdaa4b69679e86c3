"""Tables in Markdown."""


def table(header, rows):
    """Formats a table with aligned columns.

    Args:
        header: list of str.
        rows: list of lists of str, each as long as `header`.

    Returns:
        str.
    """
    lines = [header, *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(header))]
    texts = [
        "| " + " | ".join(
            cell.ljust(width) for cell, width in zip(row, widths)
        ) + " |"
        for row in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])
