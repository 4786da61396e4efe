"""The keys of a kernel: long enough, new each time, and usable by libzmq."""

import base64

import zmq

from kconnd.system.keys import KEY_BYTES, new_curve_keys, new_key


def test_a_key_has_256_random_bits() -> None:
    keys = {new_key() for _ in range(10)}
    assert len(keys) == 10
    assert KEY_BYTES * 8 == 256
    assert {len(base64.b64decode(key)) for key in keys} == {KEY_BYTES}


def test_a_curve_key_pair_belongs_together() -> None:
    keys = new_curve_keys()
    assert zmq.curve_public(keys.secret.encode()) == keys.public.encode()
