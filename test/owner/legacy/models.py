"""ENCMODEL and ENVMODEL as Python programs write and read them, from docs/legacy.md alone: the other side of the
tests. One JSON request a line in, one JSON answer a line out; bytes are base64. KMS is the caller's business."""

import base64
import hashlib
import json
import os
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def b64(data):
    return base64.b64encode(data).decode()


def encmodel_write(key, plaintext, aad):
    metadata = {
        "version": "1.0",
        "algorithm": "AES-256-GCM",
        "plaintext_size": len(plaintext),
        "plaintext_hash": hashlib.sha256(plaintext).hexdigest(),
        "has_aad": aad is not None,
    }
    header = json.dumps(metadata).encode()
    nonce = os.urandom(12)
    return b"ENCMODEL" + struct.pack(">I", len(header)) + header + nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def encmodel_read(key, data, aad):
    assert data[:8] == b"ENCMODEL"
    (length,) = struct.unpack(">I", data[8:12])
    metadata = json.loads(data[12 : 12 + length])
    nonce, ciphertext = data[12 + length : 24 + length], data[24 + length :]
    assert metadata["version"] in (1, "1.0") and metadata["algorithm"] == "AES-256-GCM"
    assert metadata["has_aad"] == (aad is not None)
    plaintext = AESGCM(key).decrypt(nonce, ciphertext, aad)
    assert len(plaintext) == metadata["plaintext_size"]
    assert hashlib.sha256(plaintext).hexdigest() == metadata["plaintext_hash"]
    return plaintext


def envmodel_write(key, plaintext, metadata, wrapped, kms_key_id, how, aad_how):
    aad = json.dumps(metadata, **aad_how).encode()
    nonce = os.urandom(12)
    envelope = {
        "version": 1,
        "kms_key_id": kms_key_id,
        "encrypted_dek": b64(wrapped),
        "nonce": b64(nonce),
        "metadata": metadata,
        "plaintext_hash": hashlib.sha256(plaintext).hexdigest(),
    }
    header = json.dumps(envelope, **how).encode()
    return b"ENVMODEL" + struct.pack(">I", len(header)) + header + AESGCM(key).encrypt(nonce, plaintext, aad)


def envmodel_read(key, data):
    assert data[:8] == b"ENVMODEL"
    (length,) = struct.unpack(">I", data[8:12])
    envelope = json.loads(data[12 : 12 + length])
    aad = json.dumps(envelope["metadata"]).encode()
    plaintext = AESGCM(key).decrypt(base64.b64decode(envelope["nonce"]), data[12 + length :], aad)
    assert hashlib.sha256(plaintext).hexdigest() == envelope["plaintext_hash"]
    return plaintext, envelope


def raw(request, name):
    return base64.b64decode(request[name]) if request.get(name) is not None else None


def hows(how):
    return {name: tuple(value) if name == "separators" else value for name, value in (how or {}).items()}


def answer(request):
    what, key = request["what"], raw(request, "key")
    if what == "encmodel-write":
        return {"file": b64(encmodel_write(key, raw(request, "plaintext"), raw(request, "aad")))}
    if what == "encmodel-read":
        return {"plaintext": b64(encmodel_read(key, raw(request, "file"), raw(request, "aad")))}
    if what == "envmodel-write":
        # As text, so that this side's own parser makes ints, floats and dicts of it.
        metadata = json.loads(request["metadata"])
        if request.get("numberedTwice"):
            metadata = {1: "one", "1": "another", **metadata}  # json.dumps writes the name "1" twice
        wrapped, kms_key_id = raw(request, "wrapped"), request["kmsKeyId"]
        how, aad_how = hows(request.get("how")), hows(request.get("aadHow"))
        file = envmodel_write(key, raw(request, "plaintext"), metadata, wrapped, kms_key_id, how, aad_how)
        return {"file": b64(file)}
    plaintext, envelope = envmodel_read(key, raw(request, "file"))
    return {"plaintext": b64(plaintext), "metadata": json.dumps(envelope["metadata"])}


for line in sys.stdin:
    try:
        print(json.dumps(answer(json.loads(line))))
    except (AssertionError, InvalidTag, KeyError, ValueError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
