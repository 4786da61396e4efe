"""``python -m tests.server.fuzz_document SOCKET``: requests made from the front door's document.

They are sent as a user without rights. Prints how many there were.
"""

import json
import sys
from pathlib import Path

from tests.bridge import ask_by_document, bridged_as
from tests.end_to_end.daemon import Connection
from tests.server.fuzz import NOBODY


def main() -> None:
    """Read the document and send what it allows."""
    path = Path(sys.argv[1])
    connection = Connection(path)
    connection.request("GET", "/v1/openapi.json")
    document = json.loads(connection.getresponse().read())
    connection.close()
    with bridged_as(path, NOBODY) as url:
        asked = ask_by_document(url, document, names=["ada", "nobody-of-this-name", None])
    sys.stdout.write(f"{asked}\n")


if __name__ == "__main__":
    main()
