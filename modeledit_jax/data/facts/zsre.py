"""ZsRE: questions about facts (Levy et al. 2017; preprocessed by De Cao et al. 2021 and MEND 2022).

What counts as the new answer differs between code bases, so numbers do too; the choice has a name:

================== ============ ==================================================================
target             field        used by
================== ============ ==================================================================
``preprocessed``   ``ans``      MALMEN, RLEdit, HiEdit (their own files; a true answer)
``true``           answers[0]   ROME, MEMIT, AlphaEdit: the edit teaches the model the truth
``counterfactual`` ``alt``      MEND, EasyEdit: the edit replaces the truth
================== ============ ==================================================================

The locality question comes from Natural Questions and has nothing to do with the edit. It is stored
without its question mark; like the code of MALMEN and RLEdit, the loader adds it. White space
around a text, which some ``alt`` begin with, is removed.
"""

from pathlib import Path
from typing import Literal

from modeledit_jax.data.facts.json_records import fields_of_file
from modeledit_jax.data.facts.records import UNRELATED, EditRecord, EditRecords, Probe
from modeledit_jax.data.folders import locate
from modeledit_jax.reading.fields import Fields

Target = Literal["preprocessed", "true", "counterfactual"]


def load_zsre(
    name: str = "zsre_mend_eval.json",
    *,
    target: Target = "counterfactual",
    data_dir: Path | None = None,
) -> EditRecords:
    """Reads ``<data_dir>/zsre/<name>``.

    Args:
      name: of the file; MEND's layout has ``src, rephrase, alt, answers, loc, loc_ans, subject``,
        MALMEN's and RLEdit's ``src, rephrase, ans, loc, loc_ans``.
      target: what the new answer is, see above.
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Returns:
      Records in the order of the file. ``target_true`` is ``answers[0]`` for counterfactual targets
      and None for the others, which have no answer to be replaced. Records whose ``alt`` is empty
      have no counterfactual; they are left out and counted in the notes.

    Raises:
      FileNotFoundError: the file is not there; the message says where to put it.
      ValueError: unknown target, no JSON list, or a record lacks a field, e.g. that of the target.
    """
    targets = ("preprocessed", "true", "counterfactual")
    if target not in targets:
        raise ValueError(f"unknown target {target!r}: choose one of {', '.join(targets)}")
    path = locate("zsre", name, data_dir)
    read = [zsre_record(fields, target) for fields in fields_of_file(path)]
    records = tuple(record for record in read if record is not None)
    missing = len(read) - len(records)
    if not records:
        raise ValueError(f"no record of {path} has a counterfactual answer: choose another target")
    notes = (f"{missing} of {len(read)} records without a counterfactual left out",)
    return EditRecords(f"zsre/{path.name}, {target}", records, notes if missing else ())


def zsre_record(fields: Fields, target: Target) -> EditRecord | None:
    """One record; None where it has no counterfactual answer, and one is asked for.

    Raises:
      ValueError: it lacks a field.
    """
    old = None
    field = {"preprocessed": "ans", "true": "answers", "counterfactual": "alt"}[target]
    if not fields.has(field):
        raise ValueError(
            f"{fields.where}: no field {field!r}, which is the new answer for target={target!r}: "
            "add the field or choose another target"
        )
    if target == "preprocessed":
        new = fields.text("ans")
    elif target == "true":
        new = fields.texts("answers")[0]
    elif fields.is_blank("alt"):
        return None
    else:
        new, old = fields.text("alt"), fields.texts("answers")[0]
    question = fields.text("loc").removesuffix("?") + "?"
    return EditRecord(
        subject=fields.text("subject") if fields.has("subject") else "",
        prompt=fields.text("src"),
        target_new=new,
        target_true=old,
        rephrases=(fields.text("rephrase"),),
        locality=(Probe(question, fields.text("loc_ans"), UNRELATED),),
    )
