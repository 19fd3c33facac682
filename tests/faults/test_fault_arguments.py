"""Faults of arguments: found before any work, in one line that says what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from faults.faulty import Fault, check, table, write

NUMBER = "must be a positive integer, got"
FAULTS = [
    # numbers
    *(Fault(f"--top {n}", f"--top {NUMBER} {n}", flags={"--top": n}) for n in (0, -1)),
    Fault("--top 1.5", "argument --top: invalid int value: '1.5'", flags={"--top": "1.5"}),
    Fault("--top 1", "--top must be an integer of at least 2, got 1", "selectivity", {"--top": 1}),
    Fault("--top 0", f"--top {NUMBER} 0", "demo", {"--top": 0}),
    Fault("--crops 0", f"--crops {NUMBER} 0", "selectivity", {"--crops": 0}),
    Fault("--sheets -1", "--sheets must be an integer of at least 0, got -1", "selectivity", {"--sheets": -1}),
    Fault("--rare 0", f"--rare {NUMBER} 0", "selectivity", {"--rare": 0}),
    *(Fault(f"--class-threshold {x}", rf"--class-threshold must be (in \(0, 1\]|finite), got {x}", "selectivity",
            {"--class-threshold": x}) for x in ("0.0", "2.0", "nan")),
    *(Fault("--steps 0", f"--steps {NUMBER} 0", command, {"--steps": 0}) for command in ("category", "recording")),
    *(Fault("--batch-size 0", f"--batch-size {NUMBER} 0", command, {"--batch-size": 0})
      for command in ("demo", "category", "selectivity", "recording")),
    *(Fault("--seed -1", "--seed must be an integer of at least 0, got -1", command, {"--seed": -1})
      for command in ("demo", "category", "selectivity", "recording")),
    *(Fault(f"--image-size {n}", f"--image-size {NUMBER} {n}", command, {"--image-size": n})
      for command in ("category", "selectivity", "recording") for n in (0, -5)),
    *(Fault("--image-size 2", r"(\(3, 2, 2\)|2 x 2)", command, {"--image-size": 2}, early=False)
      for command in ("category", "selectivity", "recording")),
    Fault("--image-size abc", "argument --image-size: invalid int value", flags={"--image-size": "abc"}),
    Fault("--mean inf", "--mean must be finite, got inf", flags={"--mean": ["0.5", "inf", "0.5"]}),
    Fault("--mean of two", "argument --mean: expected 3 arguments", flags={"--mean": ["0.5", "0.5"]}),
    *(Fault("--std nan", "--std must be finite, got nan", command, {"--std": ["nan", "1", "1"]})
      for command in ("category", "selectivity", "recording")),
    Fault("--std 0", "--std must be positive, got 0", flags={"--std": ["1", "0", "1"]}),
    Fault("--folds 1", "--folds must be an integer of at least 2, got 1", "recording", {"--folds": 1}),
    Fault("--folds 99", "--folds must be at most the number of different stimuli, 24", "recording", {"--folds": 99}),
    Fault("--pca -1", "--pca must be an integer of at least 0, got -1", "recording", {"--pca": -1}),
    Fault("--drivers 0", f"--drivers {NUMBER} 0", "recording", {"--drivers": 0}),
    *(Fault(f"{flag} nan", f"{flag} must be finite, got nan", "recording", {flag: "nan"})
      for flag in ("--threshold", "--min-r", "--min-reliability", "--min-d-prime")),
    Fault("--jobs 0", "--jobs must be a number of processes, or -1 for all cores, got 0", "recording", {"--jobs": 0}),
    # names of what there is
    *(Fault("--similarity cosin", r"--similarity must be one of \('dot', 'cosine'\), got 'cosin'", command, {"--similarity": "cosin"})
      for command in ("category", "recording")),
    Fault("--rule prodct", "--rule must be one of .*'product'.*, got 'prodct'", "recording", {"--rule": "prodct"}),
    *(Fault("--references foo", "argument --references: invalid choice: 'foo' .*drivers", command, {"--references": "foo"})
      for command in ("category", "recording")),
    Fault("--grey green", "argument --grey: invalid choice: 'green'", "selectivity", {"--grey": "green"}),
    Fault("--missing maybe", "argument --missing: invalid choice: 'maybe'", "recording", {"--missing": "maybe"}),
    *(Fault(f"--pool {pool}", f"--pool must be one of .*'avg', 'max'.* or a grid's side from 1 to 64, such as 4, got '?{pool}'?", command, {"--pool": pool})
      for command in ("category", "recording") for pool in ("foo", "0", "999")),
    Fault("--layer auto --pool foo", "--pool must be one of .*, got 'foo'", "recording", {"--layer": "auto", "--pool": "foo"}),
    Fault("--pool cls of maps", "cls", flags={"--pool": "cls"}, early=False),
    *(Fault("--preferred fog", r"--preferred must be .*'fog'.*\['disc', 'plain', 'stripe'\]", command, {"--preferred": "fog"})
      for command in ("category", "recording")),
    Fault("--preferred dragon", "--preferred must be one of creature, .*got 'dragon'", "demo", {"--preferred": "dragon"}),
    # the network
    *(Fault("--layer 9", "unknown layer '9'", command, {"--layers" if command == "selectivity" else "--layer": "9"}, early=False)
      for command in ("category", "selectivity", "recording")),
    *(Fault("--layer of nothing", "unknown layer ''", command, {"--layer": ""}, early=False) for command in ("recording",)),
    Fault("--layers 1,,2", r"--layers must be names separated by commas, got an empty name", "selectivity", {"--layers": "1,,2"}),
    Fault("--model resnet51", r"unknown model 'resnet51'; .*resnet50", flags={"--model": "resnet51"}),
    Fault("--model nowhere:make", "cannot import 'nowhere' for model 'nowhere:make'", flags={"--model": "nowhere:make"}),
    Fault("--model of no such function", "'fault_network' has no callable 'mak'", flags={"--model": "fault_network:mak"}),
    Fault("--model a number", "'fault_network' has no callable 'number'", flags={"--model": "fault_network:number"}),
    Fault("--model not a network", "must return an nn.Module, got int", flags={"--model": "fault_network:no_network"}),
    Fault("--model that raises", "'fault_network:broken' .*KeyError: 'no such recipe'", flags={"--model": "fault_network:broken"}),
    Fault("--model in a file with an error", "cannot import 'typo' .*SyntaxError.*line 1", flags={"--model": "typo:make"}, change=write("typo.py", "def (")),
    Fault("--model without a name", "expected 'module:callable'|has no callable ''", flags={"--model": "fault_network:"}),
    Fault("--weights nowhere", "no weights at nowhere.pth", flags={"--weights": "nowhere.pth"}),
    Fault("--weights of a folder", "no weights at images", flags={"--weights": "images"}),
    Fault("--weights empty", "weights.pth is not a readable state dict", change=write("weights.pth", b"")),
    Fault("--weights cut off", "weights.pth is not a readable state dict", change=write("weights.pth", lambda data: data[:500])),
    Fault("--weights a text", "weights.pth is not a readable state dict", change=write("weights.pth", "hello")),
    Fault("--weights with code", "weights.pth is not a readable state dict", change=lambda: torch.save({"a": print}, "weights.pth")),
    Fault("--weights a list", "weights.pth holds a list, expected a state dict", change=lambda: torch.save([1], "weights.pth")),
    Fault("--weights of another network", "the weights in weights.pth do not fit Sequential", flags={"--model": "fault_network:wide"}, early=False),
    Fault("--weights with keys that are numbers", "weights.pth", change=lambda: torch.save({1: torch.zeros(1)}, "weights.pth")),
    Fault("--weights damaged safetensors", "x.safetensors is not a readable state dict", flags={"--weights": "x.safetensors"}, change=write("x.safetensors", b"\xff" * 64)),
    # devices
    *(Fault(f"--device {name}", f"--device must be one that this machine has, such as 'cpu', got '{name}'", command, {"--device": name})
      for name in ("meta", "quantum", "cuda:99") for command in ("demo", "category", "selectivity", "recording")),
    # folders
    *(Fault("--out a file", "--out must be a folder, got the file labels.csv", command, {"--out": "labels.csv"})
      for command in ("demo", "category", "selectivity", "recording")),
    Fault("--out below a file", "--out must be a folder, got the file labels.csv", flags={"--out": "labels.csv/out"}),
    *(Fault("--images nowhere", "no folder of images at nowhere", command, {"--images": "nowhere"}) for command in ("category", "selectivity")),
    Fault("--images a file", "no folder of images at labels.csv", flags={"--images": "labels.csv"}),
    *(Fault("--labels nowhere", "no label file at nowhere.csv", command, {"--labels": "nowhere.csv"})
      for command in ("category", "selectivity", "recording")),
    Fault("--labels a folder", "no label file at images", flags={"--labels": "images"}),
    Fault("--recording nowhere", "no recording at nowhere: expected a folder, or a .csv, .nc, .nwb, .mat, .h5, .hdf5 or .npz file", "recording", {"--recording": "nowhere"}),
    Fault("--recording of no known kind", "cannot tell what weights.pth is", "recording", {"--recording": "weights.pth"}),
    Fault("--recording a folder of images", "no stimuli.csv in images", "recording", {"--recording": "images"}),
    Fault("--stimuli nowhere", "no folder of stimuli at nowhere", "recording", {"--stimuli": "nowhere"}),
    Fault("--window of a folder", "a folder takes no option --window", "recording", {"--window": ["0", "1"]}),
    Fault("--window of text", "argument --window: invalid float value", "recording", {"--window": ["a", "1"]}),
    Fault("--variable of a folder", "a folder takes no option --variable", "recording", {"--variable": "v"}),
    Fault("--stimulus-column of a folder", "a folder takes no option --stimulus-column", "recording", {"--stimulus-column": "v"}),
    # words
    *(Fault(f"{flag} unknown", f"no flag {flag}; did you mean {meant}\\?", command, {flag: "1"}) for command, flag, meant in (
        ("category", "--simmilarity", "--similarity"), ("category", "--tops", "--top"), ("selectivity", "--class-treshold", "--class-threshold"),
        ("selectivity", "--imagesize", "--image-size"), ("recording", "--recordings", "--recording"), ("recording", "--min_r", "--min-r"), ("demo", "--ot", "--out"))),
    Fault("without --images", "the following arguments are required: --images", flags={"--images": None}),
    Fault("without --recording", "the following arguments are required: --recording", "recording", {"--recording": None}),
    Fault("--top without a number", "argument --top: expected one argument", flags={"--top": []}),
]  # fmt: skip


@table(FAULTS)
def test_arguments(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)
