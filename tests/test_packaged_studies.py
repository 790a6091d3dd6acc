"""Studies of models loaded by name: kept, found again, named where missing, and read by the ledger and the figures."""

import itertools
import json
import shutil
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from widthprune.audit.claims import load_claims
from widthprune.audit.comparisons import apart_table
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import INCONCLUSIVE, LIKE_CONTROL, NO_TRANSFER, REPRODUCED, UNTESTABLE, judge
from widthprune.audit.lookup import NoEvidence, NotMeasured
from widthprune.calibration import Calibration
from widthprune.criteria import REGISTRY
from widthprune.errors import WidthPruneError
from widthprune.models.loading import model_revision
from widthprune.report.results import tidy
from widthprune.report.tasks import TASKS
from widthprune.studies.comparing import by_tier, holm
from widthprune.studies.packaged import (
    amp_heads,
    integrated,
    misconceptions,
    sets_at_hand,
    slicegpt,
    slicegpt_text,
)
from widthprune.studies.packaged_figures import (
    by_model,
    four_bits_table,
    heads_table,
    plot_odds,
    plot_scores_at_damage,
    plot_shares_of_odds,
    scores_table,
    sizes_and_scores,
    table_of,
)
from widthprune.studies.pairs import MYTHS, QUESTIONS, SETS
from widthprune.studies.stored import STUDIES, origin, provenance, stored

MODELS = NAME, _ = "smollm2-135m-instruct", "gemma3-270m"


@pytest.mark.parametrize(
    "shown", [partial(table_of, measure="share"), partial(by_model, measure="share"), heads_table]
)
def test_a_table_of_nothing_is_empty(shown):
    study = "amp_heads" if shown is heads_table else "misconceptions"
    none = pd.DataFrame(columns=list(STUDIES[study])).astype(STUDIES[study])
    assert not len(shown(none))


def few_items(study, value, stderr):
    """Rows of a study, as too few items leave them."""
    words = dict(criterion="PPM", set="pocket", weights="stored", chosen_by="stored", task="", model=NAME)
    words |= dict(kind="gated", stage="base", measure="share", metric="changed", removed="neurons and groups")
    if study == "amp_heads":
        words |= dict(task="pocket_facts", metric="against_neurons")
    numbers = dict(pruning_pct=10.0, value=value, stderr=stderr, n=1)
    row = {name: words.get(name, numbers.get(name, 0)) for name in STUDIES[study]}
    rows = [row, row | dict(metric="acc", value=0.5)] if study == "amp_heads" else [row]
    return pd.DataFrame(rows).astype(STUDIES[study])


@pytest.mark.parametrize(
    ("study", "shown", "form"),
    [
        ("misconceptions", partial(table_of, measure="share"), "+.3f"),
        ("misconceptions", partial(by_model, measure="share", pct=10.0), "+.3f"),
        ("attributed", partial(by_tier, measure="share"), "+.3f"),
        ("four_bits", four_bits_table, ".1%"),
        ("amp_heads", heads_table, "+.3f"),
    ],
    ids=lambda own: own if isinstance(own, str) else "",
)
def test_what_too_few_items_cannot_tell_is_not_shown_as_a_number(study, shown, form):
    cells = {value: shown(few_items(study, value, np.nan)).astype(str) for value in (0.25, np.nan)}
    assert not any(found.map(lambda text: "nan" in text).to_numpy().any() for found in cells.values())
    assert f"{0.25:{form}}" in cells[0.25].to_numpy() and "–" in cells[np.nan].to_numpy()


def test_a_table_of_unequal_sets_has_no_nan():
    rows = myth_rows({}, 0.0)
    rows = rows[~((rows["set"] == "pocket") & (rows["criterion"] == "RANDOM"))]
    assert table_of(rows, "odds").loc["RANDOM", "pocket, myths"].tolist() == ["not measured"] * 5


def test_a_p_that_is_lacking_leaves_the_others_as_they_are():
    p = pd.Series([0.01, np.nan, 0.04], ["a", "b", "c"])
    assert holm(p).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert holm(p[:0]).empty and holm(p[1:2]).isna().all()


@pytest.mark.parametrize(
    ("study", "asked", "message"),
    [
        (misconceptions, dict(limit=1), "limit must be a whole number of at least 2"),
        (misconceptions, dict(draws=0), "draws must be a whole number of at least 1"),
        (misconceptions, dict(pcts=[10.0, 10.0]), "pcts must name at least one value, and each once"),
        (integrated, dict(limit=0), "limit must be a whole number of at least 1"),
        (slicegpt, dict(limit=-1), "limit must be a whole number of at least 1"),
        (slicegpt, dict(pcts=[]), "pcts must name at least one value"),
        (amp_heads, dict(pcts=[float("nan")]), "pcts must be in"),
        (amp_heads, dict(pcts=10), "pcts must be a list"),
        (amp_heads, dict(tasks=[]), "tasks must name at least one value"),
        (amp_heads, dict(seed=-1), "seed must be a whole number from 0"),
    ],
)
def test_what_a_study_cannot_be_asked_for(study, asked, message, tmp_path):
    with pytest.raises(WidthPruneError, match=message) as caught:
        study("smollm2-135m-instruct", tmp_path, measure=True, **asked)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_study_is_kept_and_found_again(language_model, tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    assert sets_at_hand() == ["pocket"]
    asked = dict(limit=4, pcts=[10.0], draws=1)
    with pytest.raises(WidthPruneError, match="misconceptions-language_model0.csv is not there") as caught:
        misconceptions(language_model, tmp_path, measure=False, **asked)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    made = misconceptions(language_model, tmp_path, measure=True, **asked)
    again = misconceptions(language_model, tmp_path, measure=False, **asked)
    pd.testing.assert_frame_equal(made, again)
    (file,) = (tmp_path / "studies").iterdir()
    assert provenance(file)["revision"] == model_revision(language_model)
    said = origin(tmp_path, "misconceptions")
    assert set(made["model"]) == {"language_model0"} and str(language_model) not in said
    assert "language_model0 (the checkpoint's dtype, computed in float32), limit 4, seed 0, on" in said
    exact = integrated(language_model, tmp_path, measure=True, limit=1)
    assert list(table_of(exact, "agreement")) == ["pocket, myths"]
    shown = by_model(pd.concat([made, made.assign(model="other")]), "share", 20)
    assert list(shown.index) == ["language_model0", "other"] and list(shown) == ["pocket, myths"]
    (share,) = made.loc[(made["measure"] == "share") & (made["pruning_pct"] == 20), "value"]
    assert shown.iloc[0, 0].startswith(f"{share:+.3f} ± ")
    # Another model of this name, and sets that were not at hand, are no answer.
    other = tmp_path / "other" / Path(language_model).name
    shutil.copytree(language_model, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(WidthPruneError, match="was made with revision .*, not .*: name another directory"):
        misconceptions(str(other), tmp_path, measure=True, **asked)
    with pytest.raises(WidthPruneError, match="this study of language_model0, not of org/language_model0"):
        misconceptions("org/language_model0", tmp_path, measure=False, **asked)
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    with pytest.raises(
        WidthPruneError, match="without truthfulqa, bigbench, cities, counterfact: name another"
    ):
        misconceptions(language_model, tmp_path, measure=True, **asked)


def test_a_study_says_what_it_was_computed_in(language_model, tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    double = shutil.copytree(language_model, tmp_path / "double")
    AutoModelForCausalLM.from_pretrained(language_model, dtype="float64").save_pretrained(double)
    assert len(integrated(str(double), tmp_path / "new", measure=True, limit=1))
    shutil.rmtree(tmp_path / "new")
    coarse = shutil.copytree(language_model, tmp_path / "coarse")
    AutoModelForCausalLM.from_pretrained(language_model, dtype="bfloat16").save_pretrained(coarse)
    asked = dict(limit=4, pcts=[10.0], draws=1, measure=True)
    exact = misconceptions(str(coarse), tmp_path / "exact", **asked)
    rounded = misconceptions(str(coarse), tmp_path / "rounded", compute_dtype="bfloat16", **asked)
    odds = [table.loc[table["measure"] == "odds_before", "value"].item() for table in (exact, rounded)]
    assert odds[0] != odds[1] == pytest.approx(odds[0], abs=0.05)
    for folder, dtype in (("exact", "float32"), ("rounded", "bfloat16")):
        assert f"computed in {dtype})" in origin(tmp_path / folder, "misconceptions")
    # Who does not ask takes what is there; who asks for another arithmetic does not.
    pd.testing.assert_frame_equal(misconceptions(str(coarse), tmp_path / "rounded", **asked), rounded)
    with pytest.raises(WidthPruneError, match="was made with compute_dtype bfloat16, not float32"):
        misconceptions(str(coarse), tmp_path / "rounded", compute_dtype="float32", **asked)
    with pytest.raises(WidthPruneError, match="compute_dtype must be one of float32, bfloat16, float16, got"):
        misconceptions(str(coarse), tmp_path / "new", compute_dtype="auto", **asked)
    with pytest.raises(WidthPruneError, match="bfloat16 would round weights of float32"):
        misconceptions(language_model, tmp_path / "new", compute_dtype="bfloat16", **asked)
    for other in (integrated, amp_heads):
        with pytest.raises(
            WidthPruneError, match="bfloat16 would round weights of float32: name a wider one"
        ):
            other(language_model, tmp_path / "new", measure=True, compute_dtype="bfloat16")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def little_text(monkeypatch):
    text = Calibration(sequences=2, length=32)
    monkeypatch.setattr("widthprune.studies.equal_size.Calibration", lambda: text)
    return dict(limit=2, pcts=[40.0], tasks=["pocket_facts"])


def test_what_was_sliced_is_kept(language_model, tmp_path, little_text):
    table = slicegpt(language_model, tmp_path, measure=True, **little_text)
    assert list(table) == list(STUDIES["slicegpt"]) and set(table["task"]) == {"", "pocket_facts"}


def test_what_was_sliced_by_another_text_is_kept_beside_it(language_model, tmp_path, little_text):
    (tmp_path / "text.jsonl").write_text(json.dumps({"page": "Water is wet, and it was cold. " * 40}))
    own = slicegpt(language_model, tmp_path, measure=True, **little_text)
    asked = little_text | dict(text=tmp_path / "text.jsonl", sequences=4)
    other = slicegpt_text(language_model, tmp_path, measure=True, **asked)
    assert list(other) == list(own) and (other["width"] == own["width"]).all()
    pd.testing.assert_frame_equal(other, slicegpt_text(language_model, tmp_path, measure=False, **asked))
    with pytest.raises(WidthPruneError, match="was made with sequences 4, not 5: name another"):
        slicegpt_text(language_model, tmp_path, measure=True, **asked | dict(sequences=5))
    assert len(stored(tmp_path, "slicegpt")) == len(own)


def test_heads_beside_neurons_are_kept(language_model, tmp_path, little_text):
    table = amp_heads(language_model, tmp_path, measure=True, **little_text)
    pd.testing.assert_frame_equal(table, amp_heads(language_model, tmp_path, measure=False, **little_text))
    assert list(table) == list(STUDIES["amp_heads"]) and set(table["task"]) == {"pocket_facts"}
    shown = heads_table(table)
    assert [*shown.index] == [
        ("0%", "nothing"),
        ("40%", "neurons and 2 groups"),
        *(("40%", removed) for removed in ("these neurons", "both less these neurons")),
        *(("40%", removed) for removed in ("neurons", "both less neurons")),
    ]
    assert shown.loc[("40%", "both less neurons"), "parameters"] == ""


def test_a_study_of_heads_without_the_same_neurons_alone_is_shown(language_model, tmp_path, little_text):
    """As studies of earlier versions are; but not taken for one that was measured now."""
    table = amp_heads(language_model, tmp_path, measure=True, **little_text)
    older = table[(table["removed"] != "these neurons") & (table["metric"] != "against_these_neurons")]
    assert [removed for _, removed in heads_table(older).index] == [
        *("nothing", "neurons and 2 groups", "neurons", "both less neurons")
    ]
    (path,) = (tmp_path / "studies").glob("amp_heads-*.csv")
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n{older.to_csv(index=False)}")
    assert len(amp_heads(language_model, tmp_path, measure=False, **little_text)) == len(older)
    with pytest.raises(WidthPruneError, match='without rows of "these neurons": delete'):
        amp_heads(language_model, tmp_path, measure=True, **little_text)


def test_differences_are_corrected_over_the_table():
    rows = [
        dict(
            model=NAME,
            removed=removed,
            pruning_pct=pct,
            groups=0,
            neurons=1383,
            parameters=10**8,
            task=task,
            n=96,
        )
        | dict(metric=metric, value=value, stderr=stderr)
        for removed, pct in (("nothing", 0.0), ("neurons and groups", 10.0), ("neurons", 10.0))
        for task, metric, value, stderr in (
            ("pocket_prose", "word_perplexity", 100.0, 5.0),
            ("pocket_prose", "against_neurons", 0.03, 0.01),
            ("pocket_facts", "acc", 0.5, 0.05),
            ("pocket_facts", "against_neurons", 0.0, 0.0),
        )
        if metric != "against_neurons" or removed == "neurons and groups"
    ]
    shown = heads_table(pd.DataFrame(rows))
    prose, facts = (TASKS[task].label for task in ("pocket_prose", "pocket_facts"))
    # Twice the p of three standard errors, for two differences; no item moved in the other.
    assert shown.loc[("10%", "both less neurons"), prose] == "+0.030 ± 0.010, p 0.0054"
    assert shown.loc[("10%", "both less neurons"), facts] == "+0.000 ± 0.000, p 1"
    assert shown.loc[("0%", "nothing"), ["parameters", prose]].tolist() == ["100,000,000", "100 ± 5"]
    surer = heads_table(pd.DataFrame(rows).assign(stderr=0.001))
    assert surer.loc[("10%", "both less neurons"), prose] == "+0.030 ± 0.001, p < 0.0001"
    broken = pd.DataFrame(rows).query("task == 'pocket_prose'").assign(value=np.inf, stderr=np.nan)
    assert heads_table(broken).loc[("10%", "both less neurons"), prose] == "+inf"


def myth_rows(falls, held, holding=MYTHS):
    """Studies in which PPM moves the odds by so much against RANDOM, and holds so much more of some sets."""
    rows = []
    for model, name in itertools.product(MODELS, SETS):
        base = dict(model=model, set=name, draw=0, n=50)
        rows.append(
            base | dict(measure="odds_before", criterion="none", pruning_pct=0.0, value=0.5, stderr=0.1)
        )
        for pct in (1.0, 5.0, 10.0, 20.0, 40.0):
            at = base | dict(pruning_pct=pct, criterion="PPM")
            rows.append(at | dict(measure="against_random", value=falls.get(name, 0.0), stderr=0.01))
            rows.append(at | dict(measure="share", value=held if name in holding else 0.0, stderr=0.01))
            rows += [
                at | dict(measure="odds", criterion=criterion, value=-0.1, stderr=0.01)
                for criterion in ("PPM", "PPM-REVERSED", "ATTRIBUTED", "RANDOM")
            ]
    return pd.DataFrame(rows)[list(STUDIES["misconceptions"])].astype(STUDIES["misconceptions"])


def evidence(**grown):
    return Evidence(tidy(pd.DataFrame()), load_floors(), grown=grown)


def test_the_ledger_reads_pairs():
    there = evidence(misconceptions=myth_rows({"bigbench": -0.2}, 0.03))
    effect = there.myths_fall(NAME, "bigbench", 5)
    assert (effect.change, effect.stderr, effect.before, effect.n) == (-0.2, 0.01, 0.5, 50)
    held = there.myths_held(NAME, 10)
    assert held.change == pytest.approx(0.03)
    # Three sets against two, each with an error of 0.01.
    assert held.stderr == pytest.approx(0.01 * (1 / 3 + 1 / 2) ** 0.5)
    # Two sets of questions against one of sentences, all of myths.
    assert there.questions_held(NAME, 10).change == pytest.approx(0)
    by_form = evidence(misconceptions=myth_rows({}, 0.03, QUESTIONS))
    assert by_form.questions_held(NAME, 10).change == pytest.approx(0.03)
    assert by_form.myths_held(NAME, 10).change == pytest.approx(0.02)
    for asked in (
        lambda: there.myths_fall("another", "bigbench", 5),
        lambda: there.myths_fall(NAME, "bigbench", 3),
    ):
        with pytest.raises(NotMeasured):
            asked()
    with pytest.raises(NotMeasured):
        evidence().myths_held(NAME, 10)


def sliced_rows(perplexity, facts=0.3, truths=0.5):
    scores = {"pocket_prose": ("word_perplexity", perplexity), "pocket_facts": ("acc", facts)}
    scores["pocket_misconceptions_mc2"] = ("acc", truths)
    rows = [
        dict(
            model=model,
            counted=counted,
            pruning_pct=pct,
            width=100,
            parameters=10**6,
            task=task,
            metric=metric,
        )
        | dict(value=value, stderr=value / 20, n=96)
        for model, counted, pct, (task, (metric, value)) in itertools.product(
            MODELS, ("all", "without embeddings"), (10.0, 20.0), scores.items()
        )
    ]
    width = dict(task="", metric="width", value=100.0, stderr=np.nan, n=0)
    rows += [row | width for row in rows]
    return pd.DataFrame(rows)[list(STUDIES["slicegpt"])].astype(STUDIES["slicegpt"])


def measured_rows():
    rows = [
        dict(
            model=model,
            criterion=criterion,
            pruning_pct=pct,
            task=task,
            metric=metric,
            value=value,
            stderr=0.04,
            n=96,
        )
        | dict(seed=0, source="measured", chat_template=False, intermediate_size=1536, expansion_ratio=2.67)
        for model, (criterion, pct) in itertools.product(MODELS, (("none", 0.0), ("PPM", 10.0)))
        for task, metric, value in (
            ("pocket_prose", "word_perplexity", 60.0 + 10 * pct),
            ("pocket_facts", "acc", 0.6 - pct / 100),
            ("pocket_misconceptions_mc2", "acc", 0.5),
        )
    ]
    return tidy(pd.DataFrame(rows))


def test_the_ledger_reads_what_was_sliced_where_it_works():
    there = Evidence(measured_rows(), load_floors(), grown={"slicegpt": sliced_rows(100.0)})
    effects = there.sliced(NAME, "pocket_facts")
    assert [effect.change for effect in effects] == pytest.approx([-0.3, -0.3])
    assert effects[0].stderr == pytest.approx(np.hypot(0.04, 0.3 / 20))
    broken = Evidence(measured_rows(), load_floors(), grown={"slicegpt": sliced_rows(1e6)})
    with pytest.raises(NoEvidence, match="no size at which"):
        broken.sliced(NAME, "pocket_facts")
    with pytest.raises(NotMeasured):
        there.sliced("another", "pocket_facts")


def test_what_was_sliced_stands_against_ppm_at_equal_damage():
    there = Evidence(measured_rows(), load_floors(), grown={"slicegpt": sliced_rows(100.0)})
    effects = there.sliced_apart(NAME, "pocket_facts")
    # PPM's line goes from 60 to 160, and from 0.6 to 0.5.
    line = 0.6 - 0.1 * np.log(100 / 60) / np.log(160 / 60)
    assert [effect.change for effect in effects] == pytest.approx([0.3 - line] * 2)
    assert effects[0].before == 0.6 and effects[0].n == 96
    assert "sliced to the size of 10%, against PPM" in effects[0].label
    # Less damage than none is none; more than PPM's, or another number of items, cannot be compared.
    spared = Evidence(measured_rows(), load_floors(), grown={"slicegpt": sliced_rows(50.0)})
    assert [effect.change for effect in spared.sliced_apart(NAME, "pocket_facts")] == pytest.approx(
        [-0.3] * 2
    )
    fewer = sliced_rows(100.0).replace({"n": {96: 30}})
    texts = sliced_rows(100.0)
    texts.loc[texts["task"] == "pocket_prose", "n"] = 30
    for apart in (sliced_rows(170.0), fewer, texts):
        outside = Evidence(measured_rows(), load_floors(), grown={"slicegpt": apart})
        with pytest.raises(NotMeasured, match="PPM was measured on as many items at no width"):
            outside.sliced_apart(NAME, "pocket_facts")
    with pytest.raises(NotMeasured):
        Evidence(
            measured_rows().query("criterion != 'none'"),
            load_floors(),
            grown={"slicegpt": sliced_rows(100.0)},
        ).sliced_apart(NAME, "pocket_facts")
    with pytest.raises(NotMeasured):
        there.sliced_apart("another", "pocket_facts")


def test_figures_show_every_set_and_criterion():
    rows = myth_rows({}, 0.1)
    rows = rows[rows["model"] == NAME]
    axes = plot_odds(rows)
    assert [ax.get_title().split(":")[0] for ax in axes] == list(SETS)
    assert {"PPM", "ATTRIBUTED", "RANDOM"} <= {text.get_text() for text in axes[0].texts}
    assert len(plot_shares_of_odds(rows).texts) == len(SETS)
    assert axes[0].figure.get_supylabel()
    figure, given = plt.subplots(1, len(SETS))
    plot_odds(rows, axes=given)
    assert not figure.get_supylabel() and given[0].get_ylabel() and not given[1].get_ylabel()


def test_slicegpt_stands_beside_width_pruning_at_its_size():
    one = (table[table["model"] == NAME] for table in (measured_rows(), sliced_rows(100.0)))
    both = sizes_and_scores(*one)
    at = both[both["task"] == "pocket_facts"].set_index(["criterion", "pruning_pct"])
    assert at.loc[("SLICEGPT", 10.0), "damage"] == 100 and at.loc[("PPM", 10.0), "damage"] == 160
    ((ax,),) = plot_scores_at_damage(both, ["pocket_facts"], floors=pd.Series({"pocket_facts": 0.25}))
    assert {text.get_text() for text in ax.texts} == {"knows nothing", "PPM", "SLICEGPT"}


def test_a_model_that_is_broken_without_end_is_drawn_where_it_can_be():
    """A perplexity may be infinite: its point lies beyond the axis, and the others stay where they are."""
    table = sliced_rows(100.0)
    table = table[table["model"] == NAME]
    table.loc[(table["pruning_pct"] == 20) & (table["metric"] == "word_perplexity"), "value"] = np.inf
    both = sizes_and_scores(measured_rows()[lambda rows: rows["model"] == NAME], table)
    ((ax,),) = plot_scores_at_damage(both, ["pocket_facts"])
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert 10 < low < 60 and 160 < high < 1_000
    assert {text.get_text() for text in ax.texts} == {"PPM", "SLICEGPT"}


def test_draws_are_pooled_as_the_ledger_pools_them():
    draws = measured_rows().query("model == @NAME and criterion == 'PPM'").assign(criterion="RANDOM")
    draws = pd.concat(
        draws.assign(neuron_seed=seed, value=draws["value"] * factor, stderr=draws["stderr"] * factor)
        for seed, factor in ((0, 1.0), (1, 4.0))
    )
    whole = measured_rows().query("model == @NAME and criterion == 'none'")
    (at,) = (
        sizes_and_scores(tidy(pd.concat([whole, draws])))
        .query("task == 'pocket_facts' and pruning_pct == 10")
        .itertuples()
    )
    assert at.damage == pytest.approx(320) and at.value == pytest.approx(1.25)  # of 160 and 640, of 0.5 and 2
    assert at.stderr == pytest.approx(np.hypot(0.04 * (17 / 2) ** 0.5, 1.5 / 2))


def test_scores_stand_in_a_table_with_the_damage():
    one = (table[table["model"] == NAME] for table in (measured_rows(), sliced_rows(100.0)))
    shown = scores_table(sizes_and_scores(*one))
    facts = TASKS["pocket_facts"].label
    assert [*shown.index] == [
        ("0%", "unpruned"),
        *(("10%", name) for name in ("PPM", "SLICEGPT")),
        ("20%", "SLICEGPT"),
    ]
    assert shown.loc[("10%", "PPM"), ["prose perplexity", facts]].tolist() == ["160.0", "0.500 ± 0.040"]


def test_criteria_stand_alone_where_nothing_was_sliced():
    none = sliced_rows(100.0).iloc[:0]
    shown = sizes_and_scores(measured_rows(), none)
    pd.testing.assert_frame_equal(shown, sizes_and_scores(measured_rows()))
    assert set(shown["criterion"]) == {"none", "PPM"} and list(shown) == [
        *("criterion", "pruning_pct", "task", "value", "stderr", "damage")
    ]


def test_no_panel_names_more_criteria_than_can_be_told_apart():
    names = [*REGISTRY][:10]
    rows = [("none", 0.0, 1.0, 10.0), *((name, 10.0, 0.5, 20.0) for name in names)]
    table = pd.DataFrame(rows, columns=["criterion", "pruning_pct", "value", "damage"])
    table = table.assign(task="pocket_facts", stderr=0.1)
    for floors in (None, {"pocket_facts": 0.25}):
        grid = plot_scores_at_damage(table, ["pocket_facts"], floors=floors)
        named = [[text.get_text() for text in ax.texts] for ax in grid[0]]
        assert sorted({*sum(named, [])} - {"knows nothing"}) == sorted(names) and max(map(len, named)) <= 5


ALL = dict.fromkeys(SETS, -0.2)
PPM_TAKES = {name: -0.2 for name in MYTHS}
WORLDS = {
    "nothing was studied": {},
    "questions hold more": dict(misconceptions=myth_rows({}, 0.2, QUESTIONS)),
    "nothing moves": dict(misconceptions=myth_rows({}, 0.0), slicegpt=sliced_rows(100.0, 0.58)),
    "myths fall": dict(misconceptions=myth_rows(PPM_TAKES, 0.1), slicegpt=sliced_rows(100.0)),
    "slicing may cost": dict(slicegpt=sliced_rows(100.0, 0.46)),
    "all falls": dict(misconceptions=myth_rows(ALL, 0.1)),
    "myths rise": dict(
        misconceptions=myth_rows(dict.fromkeys(MYTHS, 0.2), -0.1), slicegpt=sliced_rows(100.0, 0.3, 0.1)
    ),
}
STUDIED = [
    claim for claim in load_claims() if any(name in (claim.measured or "") for name in ("myths_", "sliced"))
]


@pytest.mark.parametrize("claim", STUDIED, ids=lambda claim: claim.id)
def test_a_rule_reaches_every_outcome_it_can_have(claim):
    reached = {
        judge(claim, Evidence(measured_rows(), load_floors(), grown=made)).outcome for made in WORLDS.values()
    }
    possible = {REPRODUCED, NO_TRANSFER, INCONCLUSIVE, UNTESTABLE} | (
        {LIKE_CONTROL} if claim.alike else set()
    )
    assert reached == possible


def criteria_rows(apart, stderr=0.004, criteria=("PPM", "L2")):
    """Facts fall by a hundredth a percent; under L2 there are so many more than under PPM at as much damage."""
    scores = {"pocket_prose": "word_perplexity", "pocket_facts": "acc", "pocket_misconceptions_mc2": "acc"}
    rows = []
    for model, (criterion, pct), (task, metric) in itertools.product(
        MODELS, [("none", 0.0), *itertools.product(criteria, (10.0, 20.0))], scores.items()
    ):
        # L2 at 20% does the damage of PPM at 15%.
        as_ppm = pct * 0.75 if criterion == "L2" else pct
        value = {"pocket_prose": 60.0 * 1.05**as_ppm, "pocket_facts": 0.6 - as_ppm / 100}.get(task, 0.5)
        value += apart * (criterion == "L2") * (task == "pocket_facts")
        at = dict(model=model, criterion=criterion, pruning_pct=pct, task=task, metric=metric, value=value)
        rows.append(at | dict(stderr=stderr * (value if task == "pocket_prose" else 1), n=96))
    same = dict(seed=0, source="measured", chat_template=False, intermediate_size=1536, expansion_ratio=2.67)
    return tidy(pd.DataFrame(rows).assign(**same))


def test_criteria_are_compared_where_they_did_as_much_damage():
    effects = Evidence(criteria_rows(0.02), load_floors()).criteria_apart(NAME, "pocket_facts")
    assert [effect.change for effect in effects] == pytest.approx([0.02, 0.02])
    assert all(effect.label.startswith("pocket facts of smollm2-135m-instruct, L2 at") for effect in effects)
    # Both scores have an error of 0.004, and so have both logarithms of perplexities, along which facts fall.
    slope = 0.01 / np.log(1.05)
    read = 0.004 * 2**0.5 * slope
    assert effects[0].stderr == pytest.approx((2 * 0.004**2 + read**2) ** 0.5, rel=0.05)
    assert effects[0].before == pytest.approx(0.6)
    for rows in (criteria_rows(0.0, criteria=["PPM"]), criteria_rows(0.0, criteria=["L2"])):
        with pytest.raises(NotMeasured):
            Evidence(rows, load_floors()).criteria_apart(NAME, "pocket_facts")


def test_what_criteria_leave_beyond_ppm_as_a_table():
    made = Evidence(criteria_rows(0.02), load_floors())
    shown = apart_table(made, ["pocket_facts", "pocket_misconceptions_mc2"])
    assert list(shown.index.names) == ["model", "criterion", "size of"] and len(shown) == 4
    assert list(shown.loc[(NAME, "L2", "20%")]) == ["+0.020 ± 0.006", "+0.000 ± 0.006"]
    assert not len(apart_table(Evidence(measured_rows(), load_floors()), ["pocket_facts"]))
    made = {"slicegpt": sliced_rows(100.0), "slicegpt_text": sliced_rows(160.0)}
    shown = apart_table(Evidence(measured_rows(), load_floors(), grown=made), ["pocket_facts"])
    assert list(shown.loc[(NAME, "SLICEGPT", "10%")]) == ["-0.248 ± 0.043"]
    assert list(shown.loc[(NAME, "SLICEGPT, by another text", "10%")])[0].startswith("-0.200 ± ")


def test_only_criteria_that_repair_nothing_are_compared():
    rows = criteria_rows(0.02)
    rows["criterion"] = rows["criterion"].replace("L2", "FLAP-BIAS")
    with pytest.raises(NotMeasured):
        Evidence(rows, load_floors()).apart(NAME, "pocket_facts")


def test_criteria_are_compared_over_the_same_items():
    # Under L2 forty items were asked, under PPM these and all.
    rows, few = criteria_rows(0.02), criteria_rows(0.02)
    few.loc[few["task"] == "pocket_facts", "value"] += 0.1
    few = few.assign(limit=40, n=40)
    table = pd.concat([rows[rows["criterion"] != "L2"], few], ignore_index=True)
    effects = Evidence(table, load_floors()).criteria_apart(NAME, "pocket_facts")
    assert [effect.change for effect in effects] == pytest.approx([0.02, 0.02])
    assert {effect.n for effect in effects} == {40}


def test_draws_are_compared_as_their_mean_where_ppms_perplexity_fell_between():
    rows = criteria_rows(0.0)
    second = rows[rows["criterion"] == "L2"].assign(criterion="RANDOM", neuron_seed=1)
    rows["criterion"] = rows["criterion"].replace("L2", "RANDOM")
    second.loc[second["task"] == "pocket_facts", "value"] += 0.04
    rows = pd.concat([rows, second], ignore_index=True)
    before = Evidence(rows, load_floors()).apart(NAME, "pocket_facts")["RANDOM", 20.0]
    assert before.change == pytest.approx(0.02)
    # At 10% prose is better than unpruned: what it had lost by then is nothing, and facts fall from there on.
    lower = (rows["criterion"] == "PPM") & (rows["pruning_pct"] == 10) & (rows["task"] == "pocket_prose")
    rows.loc[lower, "value"] = 50.0
    after = Evidence(rows, load_floors()).apart(NAME, "pocket_facts")["RANDOM", 20.0]
    assert after.change == pytest.approx(0.02 + 0.45 - (0.5 - 0.1 * 0.75), abs=1e-6)


@pytest.mark.parametrize(("exponent", "found"), [(21, {10: 0.0}), (-1, {10: 0.0, 20: -0.15})])
def test_what_damaged_more_than_ppm_is_not_compared(exponent, found):
    """And what did no damage stands against the unpruned model."""
    rows = criteria_rows(0.0)
    more = (rows["criterion"] == "L2") & (rows["pruning_pct"] == 20) & (rows["task"] == "pocket_prose")
    rows.loc[more, "value"] = 60.0 * 1.05**exponent
    effects = Evidence(rows, load_floors()).apart(NAME, "pocket_facts")
    assert {pct: effect.change for (_, pct), effect in effects.items()} == pytest.approx(found)


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        (criteria_rows(0.05), REPRODUCED),
        (criteria_rows(-0.05), REPRODUCED),
        (criteria_rows(0.0), NO_TRANSFER),
        (criteria_rows(0.0, stderr=0.1), INCONCLUSIVE),
        (criteria_rows(0.0, criteria=["PPM"]), UNTESTABLE),
    ],
)
def test_whether_the_criterion_matters_is_judged(rows, outcome):
    claim = next(claim for claim in load_claims() if claim.id == "open-criterion-or-width")
    assert judge(claim, Evidence(rows, load_floors())).outcome == outcome
