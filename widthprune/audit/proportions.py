"""Is a score different from the unpruned one, given how many items it was taken over?"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..errors import WidthPruneError
from ..report.stats import difference
from ..report.tasks import TASKS, headline


def against_unpruned(table: pd.DataFrame) -> pd.DataFrame:
    """Each accuracy with its binomial error, and its `widthprune.report.stats.difference` from the unpruned model's.

    The two are taken as independent. Where both saw the same items the test is weaker than a paired one,
    which needs the answers. MC2 is a mean of numbers between 0 and 1, whose variance is at most a
    proportion's, so its test is on the safe side.

    Parameters
    ----------
    table : DataFrame
        Rows of one criterion, 0% included. ``n`` is used where it is known, else the official size.

    Returns
    -------
    DataFrame
        Accuracies of headline metrics, with ``items``, ``binomial_se``, ``z`` and ``p``; the unpruned rows have none of the
        last two.
    """
    rows = headline(table)
    rows = rows[[TASKS[task].higher_is_better for task in rows["task"]]].copy()
    official = rows["task"].map({name: task.items for name, task in TASKS.items()})
    rows["items"] = rows["n"].astype("float64").fillna(official.astype("float64"))
    if rows["items"].isna().any():
        task = rows.loc[rows["items"].isna(), "task"].iloc[0]
        raise WidthPruneError(f"{task} has neither n nor an official size, so its error is unknown")
    rows["binomial_se"] = np.sqrt(rows["value"] * (1 - rows["value"]) / rows["items"])
    whole = rows[rows["pruning_pct"] == 0].set_index(["model", "task"])[["value", "binomial_se"]]
    rows = rows.join(whole.add_suffix("_0"), on=["model", "task"])
    found = difference(*((rows[f"value{end}"], rows[f"binomial_se{end}"]) for end in ("_0", "")))
    pruned = (rows["pruning_pct"] > 0) & rows["value_0"].notna()
    # All right or all wrong both times: no spread, and no difference.
    rows["z"] = pd.Series(found.z, rows.index).mask(found.change == 0, 0.0).where(pruned)
    rows["p"] = 2 * norm.sf(rows["z"].abs())
    return rows.drop(columns=["value_0", "binomial_se_0"])
