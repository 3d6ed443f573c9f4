import subprocess

from stagegate.git import current_commit


def test_a_folder_without_git_is_uncommitted(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert current_commit(tmp_path) == "uncommitted"


def test_the_commit_says_whether_files_differ_from_it(tmp_path):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    commit = current_commit(tmp_path)

    (tmp_path / "new").write_text("")

    assert len(commit) == 40
    assert current_commit(tmp_path) == f"{commit}-dirty"
