"""The print edition: all pages as one document, printed by a browser into ``_build/book.pdf``.

make pdf        # after `make book`; needs Chromium
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from build import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 20_000  # of the browser's own clock, until scripts have drawn


def main(output: Path = ROOT / "_build") -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    stage, pdf = output / "stage", output / "book.pdf"
    if browser is None:
        print(f"pdf: error: printing needs one of {', '.join(BROWSERS)}: install it", file=sys.stderr)
        return 2
    if not (output / "html").is_dir():
        print("pdf: error: no book is there to be printed: run `make book` first", file=sys.stderr)
        return 2
    tool = Path(sys.executable).parent / "jupyter-book"
    build = [tool, "build", stage, "--path-output", output / "print", "--builder", "singlehtml", "-q"]
    if status := subprocess.run(list(map(str, build))).returncode:
        print("pdf: error: the pages could not be joined, see above", file=sys.stderr)
        return status
    page = joined(stage, output / "print" / "_build" / "singlehtml")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--no-pdf-header-footer",
            f"--virtual-time-budget={PATIENCE_MS}",
            f"--print-to-pdf={pdf}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode or not pdf.is_file():
        print(f"pdf: error: the browser did not print: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return 1
    print(pdf)
    return 0


def joined(stage: Path, folder: Path) -> Path:
    """The one page, where what it loads is found: it is written for the top folder, into that of the first chapter.

    Raw HTML is written for pages in folders of their own, and its links to chapters lead to their begin.
    """
    root = yaml.safe_load((stage / "_toc.yml").read_text(encoding="utf-8"))["root"]
    text = (folder / f"{root}.html").read_text(encoding="utf-8")
    text = text.replace(f'"{root}.html#', '"#').replace('src="../_static/', 'src="_static/')
    text = re.sub(r"""(["'])\.\./(notebooks/\w+)\.html""", r"\1#document-\2", text)
    page = folder / "print.html"
    page.write_text(text, encoding="utf-8")
    return page


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
