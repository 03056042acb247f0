"""Contracts with other options than the defaults: several teachers, weights, matching, response."""

from collections.abc import Mapping
from typing import Any

import pytest

from tutelage.core.registry import build, get
from tutelage.testing import objective_contracts

TWO, THREE = ["first", "second"], ["first", "second", "third"]
LAYERS: Mapping[str, Any] = {"student": TWO, "teacher": THREE}
F = {"pairs": {"feature": "feature"}}
TAPPED = {"student": "feature", "teacher": "feature"}

OPTIONS: list[tuple[str, Mapping[str, Any]]] = [
    ("kd_members", {"members": 3, "temperature": 1.0}),
    ("ca_mkd", {"members": 3}),
    ("eb_kd", {"members": 3}),
    ("eb_kd", {"members": 1}),
    ("ae_kd", {"members": 3, "most": 0.5}),
    ("ae_kd", {"members": 2, "over": "units"}),
    ("unic", {"pairs": {"feature": ["0/feature", "1/feature"]}, "drop": 1.0}),
    ("unic", {"pairs": {"feature": ["0/feature", "1/feature"]}, "drop": 0}),
    ("reweighted", {"inner": {"match": F}, "by": "teacher_sure"}),
    ("reweighted", {"inner": "dkd", "by": "teacher_right"}),
    ("reweighted", {"inner": "ce", "by": "student_unsure"}),
    ("reweighted", {"inner": "logit_mse", "by": {"by_group": {"shares": [1, 0] * 25}}}),
    ("ramp", {"inner": "dkd", "steps": 3, "shape": "cosine", "start": 0.5}),
    ("ramp", {"inner": "dist", "steps": 1, "shape": "sigmoid"}),
    ("only", {"inner": "dist", "variants": [1, 2]}),
    ("standardized", {"inner": "kd"}),
    ("standardized", {"inner": {"rld": {}}}),
    ("match", {**F, "distance": "cosine"}),
    ("match", {**F, "distance": "smooth_l1", "weights": [0.5]}),
    ("match", {**F, "adapter": None}),
    ("match_layers", {**LAYERS, "order": "last"}),
    ("match_layers", {**LAYERS, "order": "end", "distance": "mse"}),
    ("match_layers", {**LAYERS, "distance": "attention"}),
    ("match_layers", {**LAYERS, "adapter": None}),
    ("match_emd", {"temperature": None, "floor": 1.0}),
    ("match_emd", {"distance": "cosine", "floor": 0.5}),
    ("match_gumbel", {"distance": "mse", "steps": 1}),
    ("match_gumbel", {"distance": "cosine"}),
    ("semckd", {"distance": "cosine", "width": 4}),
    ("semckd", {"distance": "attention"}),
    ("afd", {"width": 8}),
    ("blockwise", {"power": 1}),
    ("ce", {"label_smoothing": 0.1}),
    ("kd", {"temperature": 1.0}),
    ("kd_standardized", {"temperature": 0.5}),
    ("dkd", {"alpha": 0, "temperature": 1.0}),
    ("dkd", {"beta": 0}),
    ("dist", {"beta": 2.0, "gamma": 0.5, "temperature": 0.5}),
    ("dist", {"beta": 0}),
    ("nkd", {"gamma": 0}),
    ("nkd", {"temperature": 4.0}),
    ("wsld", {"temperature": 4.0}),
    ("rld", {"beta": 0.5, "temperature": 1.0, "alpha_temperature": 4.0}),
    ("deit_soft", {"temperature": 1.0}),
    ("deit_hard", {}),
    ("mlkd", {"temperatures": [1.0]}),
    ("ikl", {"beta": 1.0, "temperature": 1.0, "weight_temperature": 4.0}),
    ("dkl", {"temperature": 4.0, "beta": 0.5}),
    ("js", {"beta": 0.1, "temperature": 2.0}),
    ("skew_kl", {"alpha": 0}),
    ("skew_reverse_kl", {"alpha": 0.9, "temperature": 2.0}),
    ("reverse_kl", {"temperature": 4.0}),
    ("tvd", {"temperature": 4.0}),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.5}),
    ("kd_binary", {"temperature": 4.0}),
    ("kd_gaussian", {"outputs": 5, "variance": 0.1}),
    ("ofa", {"eps": 2.0, "exits": ["feature"], "exit_weight": 0.5}),
    ("wkd_l", {"head": "head", "strength": 0.25, "iterations": 3, "temperature": 1.0}),
    ("skd", {"temperature": 1.0, "ridge": 1.0, "beta": 0.5}),
    ("tf_kd", {"temperature": 1.0, "confidence": 0.5}),
    ("minilm", {"units": "real", "causal": True}),
    ("tinybert_states", {"adapter": None}),
    ("tinybert_states", {"shared": False, "units": "real"}),
    ("tinybert_attention", {"meet": "mean", "causal": True}),
    ("tinybert", {"prediction": False, "adapter": None}),
    ("patient_kd", {"token": "mean"}),
    ("patient_kd", {"token": "last", "adapter": "linear"}),
    ("distilbert_cosine", {"adapter": None}),
    ("mobilebert", {"adapter": "linear", "units": "real"}),
    ("bert_emd", {"separate": True, "temperature": None}),
    ("bert_emd", {"shared": False, "floor": 1.0}),
    ("dskd", {"divergence": "reverse"}),
    ("dskd", {"divergence": "alpha_beta", "temperature": 1.0, "start": "logits"}),
    ("embed_distill", {"measure": "mse"}),
    ("embed_distill", {**TAPPED, "measure": "cosine", "adapter": "linear"}),
    ("pairwise_cosines", {**TAPPED, "pool": "last"}),
    ("rank_cse", {**TAPPED, "temperature": 0.5, "teacher_temperature": 0.2}),
    ("margin_mse_embeddings", TAPPED),
    ("matryoshka", {"teacher": "cut", "weights": [1, 0.5]}),
    ("matryoshka", {"inner": {"embed_distill": {**TAPPED, "adapter": "linear"}}, "sizes": [2, 6]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda each: str(each))
def test_other_options_keep_every_contract(name: str, options: Mapping[str, Any]) -> None:
    given = {**get("objective", name).example, **options}
    for contract in objective_contracts(lambda: build("objective", name, given)).values():
        contract()
