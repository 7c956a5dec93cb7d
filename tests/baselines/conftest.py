import hashlib

import pandas as pd
import pytest

from fusionlib.baselines import published


@pytest.fixture(scope="session")
def relist(tmp_path_factory):
    """Make a list of published weights: path → content of the files, as if they were that."""

    def write(patch, contents):
        listed = pd.read_csv(published.LIST, dtype=str, keep_default_na=False)
        for i, row in listed.iterrows():
            if data := contents.get(row["file"]):
                listed.loc[i, ["sha256", "size"]] = hashlib.sha256(data).hexdigest(), str(len(data))
        path = tmp_path_factory.mktemp("list") / "published_weights.csv"
        listed.to_csv(path, index=False)
        patch.setattr(published, "LIST", path)

    return write
