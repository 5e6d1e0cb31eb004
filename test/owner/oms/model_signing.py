"""OpenSSF Model Signing 1.0 as another program signs and verifies it, from the specification alone (with the order of
shards that the reference implementation writes: by start, not by name). One JSON request a line in, one answer out."""

import base64
import hashlib
import json
import os
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PAYLOAD_TYPE = b"application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
GIT = [".git", ".gitattributes", ".github", ".gitignore"]
HASHES = {"secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}


def pae(payload):
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE, len(payload), payload)


def hint(key):
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def digests(root, serialization, ignored):
    """(path, start, end) to digest; end is None for whole files."""
    found = {}
    for folder, _folders, files in os.walk(root):
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), root).replace(os.sep, "/")
            if any(path == one or path.startswith(one + "/") for one in ignored):
                continue
            with open(os.path.join(root, path), "rb") as opened:
                data = opened.read()
            if serialization["method"] == "files":
                found[(path, 0, None)] = hashlib.sha256(data).hexdigest()
                continue
            size = serialization["shard_size"]
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                found[(path, start, start + len(piece))] = hashlib.sha256(piece).hexdigest()
    return found


def name_of(path, start, end):
    return path if end is None else "%s:%d:%d" % (path, start, end)


def sign(request):
    key = serialization.load_pem_private_key(request["key"].encode(), None)
    method = request["serialization"]
    method.update({"hash_type": "sha256", "allow_symlinks": False})
    ignored = request["ignore"] + GIT
    resources = [
        {"name": name_of(*place), "algorithm": "sha256", "digest": digest}
        for place, digest in sorted(digests(request["root"], method, ignored).items())
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": os.path.basename(request["root"]), "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {**method, "ignore_paths": ignored}, "resources": resources},
    }
    payload = json.dumps(statement, indent=2).encode()
    signature = key.sign(pae(payload), ec.ECDSA(HASHES[key.curve.name]()))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE.decode(),
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return {"bundle": json.dumps(bundle)}


def verify(request):
    key = serialization.load_pem_public_key(request["key"].encode())
    bundle = json.loads(request["bundle"])
    assert bundle["mediaType"] == MEDIA_TYPE, "media type"
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == hint(key), "hint"
    envelope = bundle["dsseEnvelope"]
    assert envelope["payloadType"] == PAYLOAD_TYPE.decode(), "payload type"
    (signature,) = envelope["signatures"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    key.verify(base64.b64decode(signature["sig"], validate=True), pae(payload), ec.ECDSA(HASHES[key.curve.name]()))
    statement = json.loads(payload)
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}, "statement"
    assert statement["_type"] == "https://in-toto.io/Statement/v1", "type"
    assert statement["predicateType"] == "https://model_signing/signature/v1.0", "predicate"
    predicate = statement["predicate"]
    method = predicate["serialization"]
    assert method["hash_type"] == "sha256" and method["allow_symlinks"] is False, "serialization"
    assert ("shard_size" in method) == (method["method"] == "shards"), "shard size"
    names = [one["name"] for one in predicate["resources"]]
    assert names == sorted(names), "order of names"
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in predicate["resources"])).hexdigest()
    (subject,) = statement["subject"]
    assert subject["digest"] == {"sha256": root} and subject["name"], "subject"
    found = {name_of(*place): digest for place, digest in digests(request["root"], method, method["ignore_paths"] + GIT).items()}
    assert found == {one["name"]: one["digest"] for one in predicate["resources"]}, "files"
    return {"verified": "yes", "resources": json.dumps(names)}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = sign(request) if request["do"] == "sign" else verify(request)
    except InvalidSignature:
        answer = {"refused": "signature"}
    except AssertionError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)
