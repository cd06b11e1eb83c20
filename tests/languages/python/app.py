"""A handler as a person writes it in Python: a stage for everything that the host has to understand.

It offers what javascript/app.js offers, under the same names. It keeps every import of the world `processor`.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host, secrets, types


def echo(data):
    return json.loads(data)


def ask(data):
    host.log(host.Level.INFO, "asks for its parameter")
    return json.loads(host.param("size") or "null")


def secret(data):
    return "none" if secrets.get("NONE") is None else "one"


def retry(data):
    raise Err(types.Failure_Retry(types.Hint(1, "come back")))


def permanent(data):
    raise Err(types.Failure_Permanent("never"))


def skip(data):
    raise Err(types.Failure_Skip("not for this one"))


def throw(data):
    raise ValueError("thrown on purpose")


STAGES = {stage.__name__: stage for stage in [echo, ask, secret, retry, permanent, skip, throw]}


class Stages(exports.Stages):
    def describe(self):
        return [types.StageInfo(name, "", []) for name in STAGES]

    def run(self, work):
        return json.dumps(STAGES[work.stage](work.data))
