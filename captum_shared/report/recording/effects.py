"""What the page says of interventions: a sentence for each pair, a warning where it fails, a paragraph for all."""

from __future__ import annotations

from captum_shared.study.interventions import CONTROLS, EffectsSummary, PairEffects

TITLE = "Interventions"


def effects_sentence(e: PairEffects) -> str:
    """What interventions on a pair's image did, beside its controls."""
    specific = "" if e.twin_specificity is None else (
        f", {_sd(e.twin_specificity)} SD more than that to the least similar candidate"
    )  # fmt: skip
    readout = e.twin_necessity_readout
    own = "" if readout is None else f"; the hottest by the readout alone: {_sd(readout)}"
    return (
        f"Interventions, judged by a twin at {e.twin} (r {e.twin_r:.2f}): without the hottest tenth of the driver, the "
        f"similarity to the reference falls by {_sd(e.twin_necessity)} SD{specific} (random areas: "
        f"{_sd(e.twin_necessity_random)}{own}); with it alone, it is {_sd(e.twin_sufficiency)} SD above nothing "
        f"(random areas: {_sd(e.twin_sufficiency_random)}). The predicted response falls by {_sd(e.twin_response)} SD."
    )


def effects_warnings(e: PairEffects) -> list[str]:
    """A warning for a pair that fails against its controls."""
    if e.twin_passes == "both":
        return []
    failed = {
        "neither": "neither necessary nor sufficient",
        "necessity": "necessary, but not sufficient",
        "sufficiency": "sufficient, but not necessary",
    }[e.twin_passes]
    return [
        f"Fails its controls: to the twin, the hottest tenth of the driver is {failed} for the similarity to the "
        f"reference. Of {CONTROLS} random areas, {_beaten(e)}."
    ]


def effects_text(s: EffectsSummary | None) -> list[str]:
    """What was done, and what came of it."""
    if s is None:
        return ["There are no pairs."]
    low = s["passes"]
    r = "" if s["median_twin_r"] is None else f" (median cross-validated r {s['median_twin_r']:.2f})"
    return [
        f"The hottest {100 * s['area']:.0f} % of each driver was removed, and kept alone, by blur and by the mean "
        f"colour. A twin, a readout of another layer{r}, says what that does to the similarity to the reference, in "
        f"standard deviations over all stimuli; {CONTROLS} random areas as large are the controls. Mean fall: "
        f"{_interval(s['twin_necessity'])}, random areas {_sd(s['twin_necessity_random'])}. Mean rise of the area "
        f"alone: {_interval(s['twin_sufficiency'])}, random areas {_sd(s['twin_sufficiency_random'])}; 95 % intervals "
        "over neurons.",
        f"Of {s['pairs']} pairs, {low['both']} do more than every random area in both, {low['necessity']} only when "
        f"removed, {low['sufficiency']} only when kept, {low['neither']} in neither. By chance alone a pair does so in "
        "one of 20 cases for each of the two. A pass shows that the map is not noise, and no more: on a picture of one "
        "object every sensible map covers the object. Twin and model read the same network and were fitted to the same "
        "stimuli.",
    ]


def _beaten(e: PairEffects) -> str:
    removed, kept = (round(p * (CONTROLS + 1)) - 1 for p in (e.twin_necessity_p, e.twin_sufficiency_p))
    return f"{removed} do as much when removed, {kept} when kept"


def _sd(value: float) -> str:
    return f"{round(value, 2) + 0:.2f}".replace("-", "\u2212")


def _interval(values: list[float]) -> str:
    mean, low, high = (_sd(value) for value in values)
    return f"{mean} [{low}, {high}]"
