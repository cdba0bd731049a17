"""Fields of view that are fetched one by one: told before, kept as they come, each once, and never a wrong one."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess

import numpy as np
import pytest
from command_line import SCRIPT, environment, leftovers
from faults import noted, refused
from PIL import Image
from screens import discs
from servers import FileServer, Served, ends_after

from pci_bench.acquisition import transfer
from pci_bench.api.dataset import load
from pci_bench.datasets import rxrx1
from pci_bench.system.progress import Progress

CENTRES = [
    (row, column) for row in (40, 72, 104, 136) for column in (40, 72, 104, 136)
]  # so that each stain is there twice
NAMES = [f"U2OS-01/Plate{plate}/B02_s1_w{channel}.png" for plate in "34" for channel in "123456"]


def field(seed: int) -> bytes:
    """Return a PNG of nuclei that lie whole in a field, and with their crops."""
    noise = np.random.default_rng(seed).integers(0, 20, (176, 176))
    content = io.BytesIO()
    Image.fromarray((noise + np.where(discs(CENTRES, radius=8, size=176) > 0, 180, 10)).astype(np.uint8)).save(
        content, "PNG"
    )
    return content.getvalue()


@pytest.fixture
def repository(monkeypatch):
    """A server of a small repository in the place of the real one, asked again without waiting."""
    files = {name: field(i) for i, name in enumerate(NAMES)}
    pinned = {n: (f"data/{n}", hashlib.sha256(content).hexdigest(), len(content)) for n, content in files.items()}
    with FileServer({f"/data/{name}": content for name, content in files.items()}) as server:
        declared = {**rxrx1.declared(), "url": server.address}
        monkeypatch.setattr(rxrx1, "declared", lambda: declared)
        monkeypatch.setattr(rxrx1, "pinned_files", lambda: pinned)
        monkeypatch.setattr(transfer.Client, "wait", lambda self, seconds: None)
        yield server


def asked(server) -> list[str]:
    """Return the names that were asked for."""
    return sorted(path.removeprefix("/data/") for path in server.paths())


class Heard(Progress):
    """Keeps what is said, and how many files were asked for when it was."""

    def __init__(self, one):
        self.one, self.said = one, []

    def say(self, sentence):
        self.said.append((sentence, len(self.one.asked)))


def test_each_file_is_fetched_once_into_its_folder_after_size_and_licence_were_told(repository, cache):
    progress = Heard(repository)
    cells = load(rxrx1.RxRx1Organelles(), progress=progress)
    assert asked(repository) == sorted(NAMES)
    for name in NAMES:
        assert (cache / "downloads" / "rxrx1" / name).read_bytes() == repository.files[f"/data/{name}"]
    megabytes = sum(map(len, repository.files.values())) / 1e6
    assert progress.said[0] == (
        f"rxrx1-organelles: fetching 12 images, {megabytes:.1f} MB, from {repository.address}. RxRx1 is CC BY-NC-SA 4.0, "
        "© Recursion: not for commercial use.",
        0,
    )
    assert len(cells) == 32
    assert leftovers(cache) == []
    again = load(rxrx1.RxRx1Organelles())
    assert again.sha256 == cells.sha256
    for file in (cache / "downloads").rglob("*.png"):  # nor are they wanted once the cells are stored
        file.unlink()
    assert load(rxrx1.RxRx1Organelles()).sha256 == cells.sha256
    assert len(repository.asked) == len(NAMES)


def test_files_that_came_before_an_interruption_are_not_fetched_again(say, repository):
    for name in NAMES[5:]:
        repository.fail(f"/data/{name}", ends_after(0))
    refused(
        say("data", "get", "rxrx1-organelles", own=False),
        f"Could not fetch {NAMES[5]} of the dataset 'rxrx1-organelles' from {repository.address}data/{NAMES[5]}",
        "put a copy of the fields into a folder 'rxrx1-organelles' and set PCI_BENCH_DATA to the folder that holds it.",
        "6 more could not be had.",
    )
    repository.mend()
    repository.asked.clear()
    noted(say("data", "get", "rxrx1-organelles", own=False), "fetching 7 images", "32 cells")
    assert asked(repository) == sorted(NAMES[5:])


def test_a_file_that_breaks_off_goes_on_or_begins_again_but_is_never_taken(say, cache, repository):
    path = f"/data/{NAMES[2]}"
    content = repository.files[path]
    repository.files[path] = Served(content, ranges=False)
    repository.fail(path, ends_after(len(content) // 2))
    bytes_that_came = f"The {len(content) // 2:,} bytes that came are kept"
    refused(say("data", "get", "rxrx1-organelles", own=False), "the connection ended after", bytes_that_came)
    assert not (cache / "downloads" / "rxrx1" / NAMES[2]).exists()
    repository.mend()
    noted(say("data", "get", "rxrx1-organelles", own=False), "32 cells")


def test_another_file_under_the_name_is_refused_and_not_kept(say, cache, repository):
    path = f"/data/{NAMES[3]}"
    good = repository.files[path]
    repository.files[path] = good[:-1] + b"x"
    refused(
        say("data", "get", "rxrx1-organelles", own=False),
        f"Could not fetch {NAMES[3]}",
        "what came is not the expected file: its sha256 is",
        "PCI_BENCH_DATA",
    )
    kept = [p for p in (cache / "downloads").rglob("*_w4.png*") if p.suffix != ".lock" and not p.is_dir()]
    assert [p.name for p in kept if NAMES[3].split("/")[1] in p.parts] == []
    repository.files[path] = good
    noted(say("data", "get", "rxrx1-organelles", own=False), "32 cells")


def test_a_file_that_is_gone_says_what_to_do_instead(say, repository):
    del repository.files[f"/data/{NAMES[0]}"]
    refused(
        say("data", "get", "rxrx1-organelles", own=False), "the server answers 404", "set PCI_BENCH_DATA to the folder"
    )


def test_a_file_that_changed_in_the_cache_is_fetched_again(say, cache, repository):
    wrong = cache / "downloads" / "rxrx1" / NAMES[1]
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(field(99))
    noted(say("data", "get", "rxrx1-organelles", own=False), "32 cells")
    assert wrong.read_bytes() == repository.files[f"/data/{NAMES[1]}"]


@pytest.mark.parametrize(("change", "word"), [("removed", "is missing"), ("another", "differs")])
def test_a_copy_that_is_not_whole_is_refused_by_file_and_nothing_is_fetched(say, here, repository, change, word):
    for path, content in repository.files.items():
        file = here / "data" / "rxrx1-organelles" / path.removeprefix("/data/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    changed = here / "data" / "rxrx1-organelles" / NAMES[4]
    good = changed.read_bytes()
    changed.unlink() if change == "removed" else changed.write_bytes(field(99))
    refused(say("data", "get", "rxrx1-organelles", own=False, data=here / "data"), f"{NAMES[4]} {word}")
    changed.write_bytes(good)
    noted(say("data", "get", "rxrx1-organelles", own=False, data=here / "data"), "32 cells")
    assert repository.asked == []


def test_a_copy_of_the_fields_is_imported_from_a_folder_or_an_archive(say, here, repository, cache):
    folder = here / "copy"
    for path, content in repository.files.items():
        file = folder / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    archive = shutil.make_archive(str(here / "fields"), "zip", folder)
    for copy in (folder, archive):
        noted(say("data", "import", "rxrx1-organelles", copy, own=False), "is imported")
        noted(say("data", "get", "rxrx1-organelles", own=False), "32 cells")
        noted(say("data", "verify", "rxrx1-organelles", own=False), "12 files that were fetched are as they came")
        noted(say("data", "remove", "rxrx1-organelles", own=False), "is removed from the cache")
        assert not list((cache / "downloads").rglob("*.png"))
    assert repository.asked == []
    for file in list(folder.rglob("*_w5.png")):
        file.unlink()
    refused(
        say("data", "import", "rxrx1-organelles", folder, own=False), "holds no B02_s1_w5.png", "Nothing was imported"
    )


# ---- processes of their own


def test_two_processes_fetch_each_file_once(here, cache, repository):
    pinned = {name: list(values) for name, values in rxrx1.pinned_files().items()}
    (here / "elsewhere.py").write_text(
        "from pci_bench.datasets import rxrx1\n"
        f"rxrx1.declared()['url'] = {repository.address!r}\n"
        f"rxrx1.pinned_files = lambda: {pinned!r}\n"
    )
    command = [SCRIPT, "data", "get", "rxrx1-organelles", "--plugin", "elsewhere.py"]
    told = {"env": environment(cache), "cwd": here, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    two = [subprocess.Popen(command, **told) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    assert all("Cells(rxrx1-organelles: 32 cells" in out for out, _ in said)
    assert sum("fetching 12 images, " in err for _, err in said) == 1
    assert asked(repository) == sorted(NAMES)
    assert leftovers(here) == []


@pytest.mark.slow
def test_a_benchmark_runs_on_the_real_fields_as_a_server_gives_them(here, cache, test_data):
    folder = test_data / "rxrx1-fields"
    pinned = rxrx1.pinned_files()
    files = {f"/{path}": (folder / name).read_bytes() for name, (path, _, _) in pinned.items()}
    with FileServer(files) as one:
        (here / "elsewhere.py").write_text(
            f"from pci_bench.datasets import rxrx1\nrxrx1.declared()['url'] = {one.address!r}\n"
        )
        run = ("run", "organelles-knn", "--features", "intensity,noise", "--limit", "200", "--plugin", "elsewhere.py")
        done = subprocess.run(
            [SCRIPT, *run, "--out", "out"], env=environment(cache), cwd=here, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        wanted = [path.removeprefix("data/") for path, _, _ in rxrx1.RxRx1Organelles().wanted().values()]
        assert asked(one) == sorted(wanted)
        assert f"fetching {len(wanted)} images, " in done.stderr
    assert list((here / "out" / "results").rglob("*.json"))
    assert leftovers(here) == []
