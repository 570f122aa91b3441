"""python-gitlab, as people's scripts use it."""

import gitlab
import requests


def client(url, statuses, **credential):
    """A client that adds each answer's Cache-Status to `statuses`."""
    session = requests.Session()
    session.trust_env = False
    session.hooks["response"].append(lambda answer, *_, **__: statuses.append(answer.headers["Cache-Status"]))
    return gitlab.Gitlab(url, session=session, **credential)
