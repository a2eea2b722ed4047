"""What no schema can say about the HTTP interface, told to Schemathesis; everything else that it finds is a mistake.

Each exception names the code and the fields of the answers that it excuses, so that another refusal of the same request still counts.
"""

import re

import schemathesis

# Texts that only the server can make, and times that have to be in the past: a schema permits more than the server can take.
OPAQUE_FIELDS = {"cursor"}
JUDGED_BY_THE_CLOCK = {"timestamp", "start_time", "end_time"}
# What Python code means, and which of several fields go together.
JUDGED_BY_MEANING = {"code", "allowed_imports", "class_balance", "entity_ids"}
WHOLE_NUMBERS = {"source_id", "position", "space_id"}
# Batches of which the sound part is taken.
PARTLY_TAKEN = {"/api/ingest-batch", "/api/wifi-sessions"}
# Ranges of time.
TOO_LONG = ("a heat map has at most", "a question may be of at most")
# A schema counts characters, the server bytes.
COUNTED_IN_BYTES = " bytes"
# Refusals that follow from what the server has: something is used by others, not materialised, not active, or at its end.
OF_THE_STATE = {"run_not_cancellable", "in_use", "refused"}
# Which names are taken, and what belongs to what, is nothing that a schema knows; nor is it what SQL means, or how deep objects are nested.
OF_THE_CATALOG = ("already exists", "already exists in this concept")


def under(body, field):
    """Every value that stands under a name, however deep; the entries of lists one by one."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name == field:
                yield from value if isinstance(value, list) else [value]
            yield from under(value, field)


def is_excusable(error, body, query):
    field = error["field"]
    # 7.0 is an integer to a schema; the server wants it written as one.
    if "integer" in error["detail"] and any(isinstance(value, float) for value in under(body, field)):
        return True
    # Which spaces a dataset has is nothing that a schema knows.
    if error["detail"] == "must be within the dataset's subtree":
        return True
    # 7.0 is an integer to a schema; the server wants it written as one.
    if field in WHOLE_NUMBERS:
        records = body.get("events", body.get("sessions", [body])) if isinstance(body, dict) else []
        return any(isinstance(record.get(field), float) for record in records) or str(query.get(field)).endswith(".0")
    # The order of two times is nothing that a schema knows, nor how far apart they are.
    if error["detail"] in ("must not lie before `from`", "must lie after `from`") or error["detail"].startswith(TOO_LONG):
        return True
    # … nor where the spaces of a tree lie.
    if error["detail"].startswith("would make a cycle"):
        return True
    if error["detail"].endswith(OF_THE_CATALOG) or "does not belong to concept" in error["detail"]:
        return True
    if error["detail"] == "is required, or entity_ids instead":
        return True
    if error["detail"] in ("contains a NUL character", "is not an index on the live connection") or error["detail"].endswith("are too much work"):
        return True
    if field in JUDGED_BY_MEANING or field == "sql_query" or error["detail"].startswith("is nested deeper"):
        return True
    return field in OPAQUE_FIELDS or field in JUDGED_BY_THE_CLOCK or error["detail"].endswith(COUNTED_IN_BYTES)


def names(body, number):
    """Whether a number stands anywhere in the fields of a body that name other records."""
    if not isinstance(body, dict):
        return False
    named = [value for field, value in body.items() if field.endswith(("_id", "_ids")) or field.startswith("selected")]
    return any(str(one) == number for value in named for one in (value if isinstance(value, list) else [value]))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """False for what is no mistake, though the description alone says so."""
    kind = type(failure).__name__
    if kind == "EnsureResourceAvailability" and response.status_code == 404:
        # What is not there is not the record that was made before, but another one that the body names.
        missing = re.search(r"with ID (\d+) not found", response.json().get("detail", ""))
        return not (missing and names(case.body, missing.group(1)))
    if kind == "AcceptedNegativeData" and case.operation.path in PARTLY_TAKEN and response.status_code == 200:
        # A batch with a bad event is taken in part, and the reply names what was not.
        return not response.json()["rejected"]
    if kind != "RejectedPositiveData" or response.status_code != 400:
        return True
    body = response.json()
    if body["code"] in OF_THE_STATE:
        return False
    # A request is excused when all that is wrong with it is; an event of a batch is told under `rejected`.
    faults = body.get("errors", []) + body.get("rejected", [])
    return not (faults and all(is_excusable(fault, case.body, case.query or {}) for fault in faults))
