"""A model hub on this machine, as far as its client asks: one repository, with commits by branch."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "acme/tiny"


@contextmanager
def serving(commits: dict[str, Path]):
    """Serve the files of each directory as the branch of that name; gives the address.

    A commit is named by the hash of its branch's name: see `commit_of`.
    """
    folders = {commit_of(branch): folder for branch, folder in commits.items()}
    folders |= commits

    def commit(revision):
        return commit_of(revision) if revision in commits else revision

    def files(revision):
        folder = folders[revision]
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return [{"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size} for path in found]

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, body):
            path = self.path.partition("?")[0].lstrip("/")
            if path.startswith(f"api/models/{REPOSITORY}/revision/"):
                self._describe(path.rpartition("/")[2])
            elif path.startswith(f"api/models/{REPOSITORY}/tree/"):
                self._json([{"type": "file", "oid": "", **file} for file in files(path.rpartition("/")[2])])
            elif path.startswith(f"{REPOSITORY}/resolve/"):
                revision, _, name = path.removeprefix(f"{REPOSITORY}/resolve/").partition("/")
                self._file(revision, name, body)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

        def _describe(self, revision):
            if revision not in folders:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            names = [{"rfilename": file["path"]} for file in files(revision)]
            self._json({"id": REPOSITORY, "sha": commit(revision), "siblings": names})

        def _json(self, content):
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _file(self, revision, name, body):
            content = (folders[revision] / name).read_bytes()
            tag = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": commit(revision), "ETag": f'"{tag}"'}
            self._send(200, content, headers, body)

        def _send(self, status, content, headers, body=True):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def commit_of(branch: str) -> str:
    """Forty hexadecimal digits that name the branch's commit."""
    return hashlib.sha1(branch.encode()).hexdigest()
