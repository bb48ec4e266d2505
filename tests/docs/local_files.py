"""Files that a reader of the documentation is supposed to have, as small as can be."""

import dataclasses
import importlib
import json

import jax

import modeledit_jax as me
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.language.config import tiny_llama
from modeledit_jax.language.huggingface.checkpoint import save_pretrained
from modeledit_jax.language.parameters import init_params
from modeledit_jax.report.summary import write_summary
from modeledit_jax.report.table import Row


def torch(folder, monkeypatch):
    """PyTorch itself, imported without its warnings; the block is skipped where it is missing."""
    importlib.import_module("tests.subjects.pytorch.networks")


def policy(folder, monkeypatch):
    """A policy, hardly trained."""
    splits = me.split_images(me.load_images("digits"))
    subject = me.train_subject(me.MLP(10), splits.train, jax.random.key(1))
    tasks = [me.forget_classes(subject, splits, digit) for digit in (3, 4)]
    training = PolicyTraining(updates=1, tasks=1, trials=4)
    trainer = PolicyTrainer.of(training, "shift", [tasks])
    trainer.editor(trainer.init(jax.random.key(0))).save(folder / "shift.safetensors")


def qwen(folder, monkeypatch):
    """A Hugging Face folder of the layers of Qwen2.5-0.5B, which are very narrow here."""
    config = dataclasses.replace(
        tiny_llama(300, width=8, num_layers=24, num_heads=2, mlp_width=8, context=128),
        family="qwen2",
        qkv_bias=True,
    )
    tokenizer = byte_pair_tokenizer(["Who? The first."], 300)
    params = init_params(config, jax.random.key(0))
    save_pretrained(folder / "Qwen2.5-0.5B", config, params, tokenizer=tokenizer)


def zsre(folder, monkeypatch):
    """A thousand invented questions in either file of ZsRE."""
    (folder / "data" / "zsre").mkdir(parents=True)
    for name in ("zsre_mend_eval", "zsre_mend_train"):
        records = [
            {
                "subject": f"{name[10]}{index}",
                "src": f"Who is {name[10]}{index}?",
                "rephrase": f"{name[10]}{index}: who?",
                "alt": "she",
                "answers": ["he"],
                "loc": "who sings",
                "loc_ans": "Jo",
            }
            for index in range(1000)
        ]
        (folder / "data" / "zsre" / f"{name}.json").write_text(json.dumps(records))
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(folder / "data"))


def jigsaw(folder, monkeypatch):
    """Two comments in the form of Jigsaw's file."""
    (folder / "data" / "jigsaw").mkdir(parents=True)
    rows = 'id,comment_text,toxic\n1,"Thanks,\n all.",0\n2,You fool.,1\n'
    (folder / "data" / "jigsaw" / "train.csv").write_text(rows)
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(folder / "data"))


def comments(folder, monkeypatch):
    """A text."""
    (folder / "comments.txt").write_text("Thanks, all.\n")


def finished_run(folder, monkeypatch):
    """What an experiment leaves behind."""
    rows = [
        Row(method, "forget-7", seed, {"forget_accuracy_test": 0.0}, me.Cost(2000))
        for method in ("ppo-mask", "ppo-shift")
        for seed in (0, 1)
    ]
    write_summary(folder / "runs" / "digits", "unlearning", {}, rows)
