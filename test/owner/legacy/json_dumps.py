"""Answers what Python's json.dumps makes of JSON texts: one JSON string a line in, one JSON object a line out."""

import json
import sys

WAYS = {
    "default": {},
    "sorted": {"sort_keys": True},
    "compact": {"separators": (",", ":")},
    "plain": {"ensure_ascii": False},
    "all": {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False},
}

for line in sys.stdin:
    text = json.loads(line)
    try:
        value = json.loads(text)
    except ValueError:
        print(json.dumps({"text": text}))
        continue
    print(json.dumps({"text": text, **{name: json.dumps(value, **how) for name, how in WAYS.items()}}))
