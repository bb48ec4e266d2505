"""Facts of your own: a JSON file, in a layout of a few fields or in that of a published collection.

::

    [{"prompt": "The capital of Atlantis is", "target": "Poseidonis",      # these two are needed
      "subject": "Atlantis", "target_true": "unknown",
      "rephrases": ["Atlantis has the capital"],
      "locality": [{"prompt": "The capital of France is", "answer": "Paris"}]}]
"""

from pathlib import Path

from modeledit_jax.data.facts.common_knowledge import QUESTIONS
from modeledit_jax.data.facts.counterfact import counterfact_record
from modeledit_jax.data.facts.json_records import fields_of_file
from modeledit_jax.data.facts.records import EditRecord, EditRecords, Probe
from modeledit_jax.data.facts.zsre import zsre_record
from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.files import regular_file


def load_fact_file(path: str | Path) -> EditRecords:
    """Reads the facts of a JSON list (``.json``) or of one JSON object per line (``.jsonl``).

    Args:
      path: of the file. Records with ``requested_rewrite`` or ``target_new`` are read as those of
        CounterFact, with ``src`` as those of ZsRE.

    Returns:
      Records in the order of the file. A record without ``rephrases`` is asked about with its own
      prompt, one without ``locality`` with a question of `common_knowledge`; the notes say so.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no JSON list, or a record lacks a field; file, record and field are named.
    """
    missing = "no file of facts at {path}: give the path of a JSON list"
    path = regular_file(Path(path).expanduser(), missing)
    records, notes = [], set()
    for index, fields in enumerate(fields_of_file(path)):
        if fields.has("requested_rewrite") or fields.has("target_new"):
            records.append(counterfact_record(fields))
        elif fields.has("src"):
            record = zsre_record(fields, "counterfactual" if fields.has("alt") else "preprocessed")
            if record is not None:
                records.append(record)
        else:
            records.append(_record(fields, index))
            notes |= _notes(fields)
    return EditRecords(path.name, tuple(records), tuple(sorted(notes)))


def _record(fields: Fields, index: int) -> EditRecord:
    prompt = fields.text("prompt")
    subject = fields.text("subject") if fields.has("subject") else ""
    if subject not in prompt:
        raise ValueError(
            f"{fields.where}: the subject {subject!r} is not in the field 'prompt', {prompt!r}: "
            "spell it as in the prompt or leave it out"
        )
    return EditRecord(
        subject=subject,
        prompt=prompt,
        target_new=fields.text("target"),
        target_true=fields.text("target_true") if fields.has("target_true") else None,
        rephrases=fields.texts("rephrases") if fields.has("rephrases") else (prompt,),
        locality=_probes(fields) or (QUESTIONS[index % len(QUESTIONS)],),
    )


def _probes(fields: Fields) -> tuple[Probe, ...]:
    if not fields.has("locality"):
        return ()
    return tuple(
        Probe(probe.text("prompt"), probe.text("answer")) for probe in fields.inner_list("locality")
    )


def _notes(fields: Fields) -> set[str]:
    notes = set()
    if not fields.has("rephrases"):
        notes.add("records without rephrases: their generalization is that of the prompt itself")
    if not fields.has("locality"):
        notes.add("records without locality: their specificity is that of common knowledge")
    return notes
