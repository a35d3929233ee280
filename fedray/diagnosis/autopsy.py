"""What happened at a fall: which updates, clients, labels and terms did the harm.

`autopsy.json`. Values are accuracy fractions (R^2 for regression), losses are those of the
test set without regularisation, effects are changes of that loss: positive is harm. Null
where something is not known. CLIENT is {"client": 3, "name": "client 3", "effect": x,
"share": of all harm or null, "updates": n, "staleness": mean, "weight": sum of the weights,
"labels": {"7": 0.6, ...} (largest three shares of its training labels) or null}.

    {"format": 1,
     "run": {"name", "algorithm", "mode", "clock", "seed", "clients", "versions",
             "metric": "accuracy" | "r2", "classes": [...]},
     "replay": {"starts": [0, 40] (version 0, checkpoints), "versions": replayed,
                "checked": evaluations compared, "same": true | false | null (none compared),
                "difference": largest difference of the figure of merit},
     "methods": {"search": sentence, "effects": sentence, "outliers": sentence},
     "noise": standard deviation of the curve's jitter,
     "asked": null | version of --at,
     "falls": [ in the order they are to be shown:
       {"kind": "fall" | "shift" | "step" (--at),
        "lost": x (negative: a step that gained),
        "from": {"version", "time_s", "value"}, "to": {"version", "time_s", "value"},
        "recovered": null | {"version", "time_s"},
        "steps": versions made from `from` to `to`, "inspected": how many of them, the worst,
        "worst": {"version", "time_s", "lost", "loss_before", "loss_after", "updates"},
        "effect": {sums over the inspected steps:
          "updates": first order, all updates; "memory": first order, the server optimizer's
          momentum; "first_order": their sum; "actual": change of the test loss;
          "left_over": actual - first_order (curvature)},
        "groups": {"stale": GROUP, "fresh": GROUP} with GROUP = {"updates", "weight", "effect",
          "harm": sum of the positive effects, "share": of all harm},
        "clients": {"harmful": [CLIENT], "helpful": [CLIENT]} (five each at most),
        "labels": null | [{"label", "effect"}] most harmful first,
        "classes_lost": null | [{"label", "before", "after", "lost", "share": of the fall}],
        "terms": null | {"worst": {TERM: {"norm", "dot", "effect"}}, "usual": {the same, medians
          over the other steps looked at}, "steps": how many those are}
          with TERM gradient, participation, staleness, drift, noise, residual: their effects
          sum to effect.updates of the worst step; dot is the inner product with the gradient,
        "words": [sentences]}],
     "outliers": [{"client", "name", "score": robust z, "effect": mean per unit weight and unit
        test gradient, "others": median of the other clients, "updates", "against": share of its
        updates that raise the test loss, "labels"}],
     "mitigations": [{"cause": "staleness" | "participation" | "drift" | "noise" | "client" |
        "step", "title", "reason", "set": ["server.schedule.max_staleness=4"], "falls": [indices
        into falls]}],
     "notes": [sentences]}
"""
