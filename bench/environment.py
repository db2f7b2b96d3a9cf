"""The Python environment of the scripts in this folder.

Every script calls `enter()` before its other imports: it makes a virtual environment with the exact versions of
requirements.txt when there is none yet, and continues the script inside it. So each script is one command, from a
fresh clone, with nothing installed. Run this file itself to prepare the environment beforehand.

Only the standard library may be imported here.
"""

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"

# Packaged as PyPI wheels; "avro" and "httpfs" come first because "iceberg" needs them.
DUCKDB_EXTENSIONS = ("avro", "httpfs", "iceberg", "tpch")


def home() -> pathlib.Path:
    """The folder that holds the environment and the generated lakes; never inside the clone."""
    if given := os.environ.get("INSHORE_BENCH_HOME"):
        return pathlib.Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache).absolute() / "inshore" / "bench"


def venv_dir() -> pathlib.Path:
    return home() / "venv"


def venv_python() -> pathlib.Path:
    return venv_dir() / "bin" / "python"


def extension_dir() -> pathlib.Path:
    """Where DuckDB finds its extensions; DuckDB adds its version and platform below it."""
    return venv_dir() / "duckdb_extensions"


def prepare() -> None:
    """Makes the environment, or returns at once when it is already the one requirements.txt asks for."""
    if sys.version_info < (3, 11):
        sys.exit("bench: Python 3.11 or newer is needed, this is " + sys.version.split()[0])
    home().mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    marker = venv_dir() / "requirements.sha256"
    with open(home() / "venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists() and marker.read_text() == wanted:
            return
        print(f"bench: preparing the Python environment in {venv_dir()}", file=sys.stderr, flush=True)
        venv.create(venv_dir(), clear=True, with_pip=True)
        pip = [venv_python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", REQUIREMENTS], check=True)
        subprocess.run([venv_python(), "-c", _INSTALL_EXTENSIONS, extension_dir(), *DUCKDB_EXTENSIONS], check=True)
        marker.write_text(wanted)  # last: an interrupted set-up starts again


def enter() -> None:
    """Continues the running script inside the environment. Returns only when it already runs there."""
    if pathlib.Path(sys.prefix).resolve() == venv_dir().resolve():
        return
    try:
        prepare()
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: preparing the Python environment failed: {error}")
    os.execv(venv_python(), [str(venv_python()), *sys.argv])


# `duckdb_extensions` copies an extension out of its wheel into DuckDB's extension folder; afterwards `LOAD name`
# works without a network.
_INSTALL_EXTENSIONS = """
import sys, duckdb
from duckdb_extensions import import_extension
con = duckdb.connect(config={"extension_directory": sys.argv[1], "autoinstall_known_extensions": False})
for name in sys.argv[2:]:
    import_extension(name, con=con)
"""


if __name__ == "__main__":
    prepare()
    print(venv_python())
