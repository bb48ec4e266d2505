"""CounterFact: counterfactual edits of real facts (Meng et al. 2022, ROME, arXiv 2202.05262).

Two layouts are in use and told apart by their fields: that of ROME and MEMIT, with all paraphrases
and neighbors of a fact, and the flat one of EasyEdit (Wang et al. 2024, arXiv 2308.07269), with
one of each. White space around a text, as some files have it, is removed.
"""

from pathlib import Path

from modeledit_jax.data.facts.json_records import fields_of_file
from modeledit_jax.data.facts.records import NEIGHBOUR, EditRecord, EditRecords, Probe
from modeledit_jax.data.folders import locate
from modeledit_jax.reading.fields import Fields


def load_counterfact(
    name: str = "counterfact-edit.json", *, data_dir: Path | None = None
) -> EditRecords:
    """Reads ``<data_dir>/counterfact/<name>``.

    Args:
      name: of the file; EasyEdit publishes ``counterfact-{train,val,edit}.json``, ROME and MEMIT
        ``counterfact.json`` and ``multi_counterfact.json``.
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Returns:
      Records in the order of the file; all probes are neighbors: same relation, same true answer.

    Raises:
      FileNotFoundError: the file is not there; the message says where to put it.
      ValueError: it is no JSON list, or a record lacks a field; file, record and field are named.
    """
    path = locate("counterfact", name, data_dir)
    return EditRecords(
        f"counterfact/{path.name}",
        tuple(counterfact_record(fields) for fields in fields_of_file(path)),
    )


def counterfact_record(fields: Fields) -> EditRecord:
    """One record, in either layout.

    Raises:
      ValueError: it lacks a field.
    """
    return _from_rome(fields) if fields.has("requested_rewrite") else _from_easyedit(fields)


def _from_rome(fields: Fields) -> EditRecord:
    rewrite = fields.inner("requested_rewrite")
    subject, template = rewrite.text("subject"), rewrite.text("prompt")
    if "{}" not in template:
        raise ValueError(
            f"{rewrite.where}: the field 'prompt' is {template!r}, without {{}} for the subject: "
            "correct the field or remove the record"
        )
    true = rewrite.inner("target_true").text("str")
    return EditRecord(
        subject=subject,
        prompt=template.replace("{}", subject),
        target_new=rewrite.inner("target_new").text("str"),
        target_true=true,
        rephrases=fields.texts("paraphrase_prompts"),
        locality=tuple(
            Probe(prompt, true, NEIGHBOUR) for prompt in fields.texts("neighborhood_prompts")
        ),
        relation=rewrite.text("relation_id") if rewrite.has("relation_id") else "",
    )


def _from_easyedit(fields: Fields) -> EditRecord:
    subject, prompt = fields.text("subject"), fields.text("prompt")
    if subject not in prompt:
        raise ValueError(
            f"{fields.where}: the subject {subject!r} is not in the field 'prompt', {prompt!r}: "
            "spell it as in the prompt or remove the record"
        )
    probe = Probe(fields.text("locality_prompt"), fields.text("locality_ground_truth"), NEIGHBOUR)
    return EditRecord(
        subject=subject,
        prompt=prompt,
        target_new=fields.text("target_new"),
        target_true=fields.text("ground_truth"),
        rephrases=(fields.text("rephrase_prompt"),),
        locality=(probe,),
    )
