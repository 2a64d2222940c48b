"""The fields of Neuronpedia's records, as facts to check exports against.

From the database schema of the repository hijohnnylin/neuronpedia, at commit
008d5040ab97abd5c44d92d190b30034ad7a6e97: fields that a row may have (relations left out), with
their types; `?` may be null, `!` has neither a default nor null and must be given.
"""

from __future__ import annotations

from typing import Any

_RECORDS = {
    "Model": """
        id:String! displayNameShort:String displayName:String creatorId:String! tlensId:String?
        dimension:Int? visibility:Visibility inferenceEnabled:Boolean instruct:Boolean layers:Int!
        neuronsPerLayer:Int! createdAt:DateTime owner:String! website:String?
    """,
    "SourceSet": """
        modelId:String! name:String! hasDashboards:Boolean allowInferenceSearch:Boolean
        visibility:Visibility description:String! type:String creatorName:String! urls:String[]
        creatorEmail:String? creatorId:String! releaseName:String? createdAt:DateTime
    """,
    "Source": """
        id:String! modelId:String! hasDashboards:Boolean inferenceEnabled:Boolean
        saelensRelease:String? saelensSaeId:String? hfRepoId:String? hfFolderId:String?
        visibility:Visibility setName:String! creatorId:String! num_prompts:Int?
        num_tokens_in_prompt:Int? dataset:String? notes:String? createdAt:DateTime
    """,
    "Neuron": """
        modelId:String! layer:String! index:String! sourceSetName:String? creatorId:String?
        createdAt:DateTime maxActApprox:Float? hasVector:Boolean vector:Float[] vectorLabel:String?
        vectorDefaultSteerStrength:Float? hookName:String? topkCosSimIndices:Int[]
        topkCosSimValues:Float[] neuron_alignment_indices:Int[] neuron_alignment_values:Float[]
        neuron_alignment_l1:Float[] correlated_neurons_indices:Int[]
        correlated_neurons_pearson:Float[] correlated_neurons_l1:Float[]
        correlated_features_indices:Int[] correlated_features_pearson:Float[]
        correlated_features_l1:Float[] neg_str:String[] neg_values:Float[] pos_str:String[]
        pos_values:Float[] frac_nonzero:Float freq_hist_data_bar_heights:Float[]
        freq_hist_data_bar_values:Float[] logits_hist_data_bar_heights:Float[]
        logits_hist_data_bar_values:Float[] decoder_weights_dist:Float[]
    """,
    "Explanation": """
        id:String modelId:String! layer:String! index:String! description:String! authorId:String!
        triggeredByUserId:String? notes:String? scoreV1:Float scoreV2:Float? typeName:String?
        explanationModelName:String? createdAt:DateTime updatedAt:DateTime
    """,
    "Activation": """
        id:String tokens:String[] dataIndex:String? index:String! layer:String! modelId:String!
        dataSource:String? maxValue:Float! maxValueTokenIndex:Int! minValue:Float! values:Float[]
        dfaValues:Float[] dfaTargetIndex:Int? dfaMaxValue:Float? creatorId:String!
        createdAt:DateTime lossValues:Float[] logitContributions:String? binMin:Float? binMax:Float?
        binContains:Float? qualifyingTokenIndex:Int?
    """,
}


def check(record: str, row: dict[str, Any]) -> None:
    """Raises AssertionError unless `row` can be a row of the table `record`."""
    fields = dict(field.split(":") for field in _RECORDS[record].split())
    assert set(row) <= set(fields), set(row) - set(fields)
    for name, kind in fields.items():
        if name not in row:
            assert not kind.endswith("!"), f"{record}.{name} is missing"
        else:
            assert _fits(row[name], kind), f"{record}.{name}: {row[name]!r} is no {kind}"


def _fits(value: Any, kind: str) -> bool:
    if kind.endswith("[]"):
        return isinstance(value, list) and all(_fits(one, kind[:-2]) for one in value)
    if value is None:
        return kind.endswith("?")
    base = kind.rstrip("?!")
    if base == "Visibility":
        return value in ("PUBLIC", "UNLISTED", "PRIVATE")
    if base in ("Int", "Float") and isinstance(value, bool):
        return False
    types: dict[str, Any] = {"Int": int, "Float": int | float, "Boolean": bool}
    return isinstance(value, types.get(base, str))
